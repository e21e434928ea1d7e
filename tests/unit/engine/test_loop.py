"""Tokens and teacher-forced logits of the engine against a plain float32 forward, for every family that it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes.engines import make_spec, run_request, saved_logits, whole_sequence_logits
from firsttoken.plan import GraphOptions
from unit.tiny_models import COMMON, FAMILIES, build_tiny_model, prompt_ids, save_tiny_model

torch = pytest.importorskip("torch")

FORMS = [("eager", "native"), ("eager", "jit"), ("graph", "native"), ("graph", "jit"), ("compiled", "captured")]


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_tiny_model(family, folder / family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("forward", "operations"), FORMS)
def test_tokens_and_logits_are_those_of_a_plain_forward(
    model_dirs: dict[str, Path], family: str, forward: Any, operations: Any, tmp_path: Path
) -> None:
    """Trap 13. Seen to fail with the window of the decode mask off by one."""
    from firsttoken.engines import build_engine

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


# Families with layers of two kinds, and with scores that sdpa cannot cap.
MIXED = {
    "gemma2": {"sliding_window": 6, "head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 6, "head_dim": 8, "query_pre_attn_scalar": 8, "num_hidden_layers": 6},
    "qwen2": {"sliding_window": 7, "use_sliding_window": True, "max_window_layers": 1},
    "phi3": {"sliding_window": 9, "pad_token_id": 0},
}


@pytest.mark.parametrize("model_type", MIXED)
def test_models_with_mixed_layers(model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with one mask for all layers."""
    from firsttoken.engines import build_engine

    fields = {**COMMON, "num_key_value_heads": 2, **MIXED[model_type]}
    monkeypatch.setitem(FAMILIES, model_type, (model_type, fields))
    reference = build_tiny_model(model_type)
    reference.set_attn_implementation("eager")  # some releases of transformers forget the cap on scores under sdpa
    graphs = GraphOptions(kv_buckets=(16, 24), prefill_buckets=(8, 16))
    engine = build_engine(make_spec(save_tiny_model(model_type, tmp_path / "model"), graphs=graphs))
    try:
        assert engine.facts().attention == ("eager" if model_type == "gemma2" else "sdpa")
        for length in (5, 13):
            prompt = prompt_ids(length)
            tokens = run_request(engine, prompt, 14)
            wanted = whole_sequence_logits(reference, prompt, tokens)
            assert tokens == wanted.argmax(-1).tolist()
            logits = saved_logits(engine, prompt, tokens, tmp_path / "logits.safetensors")
            torch.testing.assert_close(logits, wanted, atol=2e-4, rtol=1e-4)
    finally:
        engine.close()


@pytest.mark.parametrize("model_type", ["opt", "mamba"])
def test_models_that_cannot_be_served_are_refused_with_a_reason(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from firsttoken.engines import build_engine
    from firsttoken.plan import Unsupported

    fields = {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32, "do_layer_norm_before": True, "state_size": 4}
    monkeypatch.setitem(FAMILIES, model_type, (model_type, fields))
    with pytest.raises(Unsupported):
        build_engine(make_spec(save_tiny_model(model_type, tmp_path / "model")))
