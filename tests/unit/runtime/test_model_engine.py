"""Tokens and teacher-forced logits of the engine against a plain float32 forward, for every family that it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes.engines import make_spec, run_request, saved_logits, whole_sequence_logits
from unit.tiny_models import FAMILIES, build_tiny_model, prompt_ids, save_tiny_model

torch = pytest.importorskip("torch")

FORMS = [("eager", "native"), ("eager", "jit"), ("graph", "native"), ("graph", "jit")]


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_tiny_model(family, folder / family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("forward", "operations"), FORMS)
def test_tokens_and_logits_are_those_of_a_plain_forward(
    model_dirs: dict[str, Path], family: str, forward: Any, operations: Any, tmp_path: Path
) -> None:
    """Seen to fail with the window of the decode mask off by one, and with positions that start at the padded length."""
    from firsttoken.runtime.engine import build_engine

    reference = build_tiny_model(family)
    engine = build_engine(make_spec(model_dirs[family], forward, operations))
    try:
        for length in (5, 13, 20):
            prompt = prompt_ids(length)
            tokens = run_request(engine, prompt, 20)
            wanted = whole_sequence_logits(reference, prompt, tokens)
            assert tokens == wanted.argmax(-1).tolist()
            logits = saved_logits(engine, prompt, tokens, tmp_path / "logits.safetensors")
            torch.testing.assert_close(logits, wanted, atol=2e-4, rtol=1e-4)
    finally:
        engine.close()
