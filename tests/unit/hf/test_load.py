"""What transformers only warns about ends the loading, by one line that names the tensor."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firsttoken.hf.load import load_model
from unit.inputs.weights import Tensors, changed_copy
from unit.tiny_models import FAMILIES, save_tiny_model

torch = pytest.importorskip("torch")

HEAD, NORM = "lm_head.weight", "model.norm.weight"
ATTACKS: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "renamed": (
        lambda tensors: tensors.update({"mm_head.weight": tensors.pop(HEAD)}),
        "2 tensors are not what the architecture expects (missing lm_head.weight, unexpected mm_head.weight)",
    ),
    "missing": (lambda tensors: tensors.pop(NORM), "missing model.norm.weight"),
    "extra": (lambda tensors: tensors.update({"extra": torch.zeros(3)}), "unexpected extra"),
    "shape": (lambda tensors: tensors.update({NORM: torch.zeros(31)}), "mismatched ('model.norm.weight', "),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_weights_that_do_not_fit(attack: str, tmp_path: Path) -> None:
    """Seen failing: a new random lm_head was loaded and measured."""
    change, words = ATTACKS[attack]
    folder = changed_copy(save_tiny_model("llama_gqa", tmp_path / "whole"), tmp_path / "changed", change)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        load_model(folder, "float32", "cpu")
    assert "\n" not in str(caught.value)


def test_experts_that_cannot_be_stacked(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "mixtral", vocab_size=96, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "whole")
    load_model(tmp_path / "whole", "float32", "cpu")
    lost = "model.layers.0.block_sparse_moe.experts.3.w1.weight"
    folder = changed_copy(tmp_path / "whole", tmp_path / "changed", lambda tensors: tensors.pop(lost))
    with pytest.raises(ValueError, match="cannot be made into the model's; remove the folder and fetch") as caught:
        load_model(folder, "float32", "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_models_and_their_older_buffers(family: str, tmp_path: Path) -> None:
    def add_buffers(tensors: Tensors) -> None:
        if family == "gpt2":
            tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 128, 128, dtype=torch.uint8)
        else:
            tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
        if family in ("qwen3", "gemma"):
            tensors[HEAD] = tensors["model.embed_tokens.weight"]  # the tied copy

    folder = changed_copy(save_tiny_model(family, tmp_path / "whole"), tmp_path / "older", add_buffers)
    load_model(folder, "float32", "cpu")
