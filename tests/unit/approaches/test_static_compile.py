"""`static_compile`: what it says of itself, and what it refuses; tokens are checked in test_equivalence_families.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from firsttoken.approaches.base import approach_class
from firsttoken.plan import Plan, Unsupported
from unit.tiny_models import save_tiny_model


def test_it_is_a_control_and_emulated_without_a_gpu() -> None:
    kind = approach_class("static_compile")
    assert kind.control
    assert kind.availability("cpu", "float32").status == "emulated"
    assert "CUDA" in kind.availability("cpu", "float32").reason


def test_a_model_without_a_compileable_cache_is_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "_can_compile_fullgraph", False)
    plan = Plan(prompt_lengths=(4,), new_tokens=2, max_context=8, dtype="float32", device="cpu")
    with (
        approach_class("static_compile")() as approach,
        pytest.raises(Unsupported, match="LlamaForCausalLM has no compileable static cache"),
    ):
        approach.load(save_tiny_model("llama_gqa", tmp_path), plan)
