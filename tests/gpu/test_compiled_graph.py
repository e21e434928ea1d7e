"""On the device: compiled and captured steps against a plain float32 forward, and the token hand-over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from fakes.engines import run_request, saved_logits, whole_sequence_logits
from fakes.equality_bench import BOUNDS
from firsttoken.analysis.equality_bounds import read_limits
from firsttoken.analysis.logit_errors import logit_errors
from unit.tiny_models import DECODER_FAMILIES, build_tiny_model, prompt_ids


@pytest.mark.parametrize(
    ("family", "dtype", "kernels"),
    [
        *((family, "float16", "our decoder") for family in DECODER_FAMILIES),
        ("decoder_qwen3", "bfloat16", "our decoder"),
        ("mistral_window", "float16", "torch.compile over Hugging Face's forward: heads of 8"),
        ("gpt2", "float16", "torch.compile over Hugging Face's forward: no decoder of ours for gpt2"),
        ("gemma", "bfloat16", "torch.compile over Hugging Face's forward: no decoder of ours for gemma"),
        ("decoder_llama", "float32", "torch.compile over Hugging Face's forward: float32"),
    ],
)
def test_captured_steps_give_the_reference_logits(
    make_engine: Callable[..., Any], family: str, dtype: str, kernels: str, tmp_path: Path
) -> None:
    """Prompts of planned and other lengths. Trap 5: seen to fail with logits left in the graphs' memory pool."""
    engine = make_engine(family, "compiled", "captured", dtype=dtype, prompt_lengths=(5, 13, 100), max_context=128)
    assert engine.facts().kernels.startswith(kernels)
    reference, limits = build_tiny_model(family), read_limits(BOUNDS, dtype, 2)
    for length in (5, 13, 20, 13, 100, 70):
        prompt = prompt_ids(length)
        tokens = run_request(engine, prompt, 20)
        logits = saved_logits(engine, prompt, tokens, tmp_path / "logits.safetensors")
        assert tokens == logits.argmax(-1).tolist()
        errors = logit_errors(whole_sequence_logits(reference, prompt, tokens).numpy(), logits.numpy())
        assert errors.distances["rms"].max() <= limits.absolute["rms"]
    counters = engine.counters()
    assert counters["recompiles"] == 0
    assert counters["decode_replays"] == counters["decode_steps"]
    assert all(row.device_ns > 0 for row in engine.timings())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_8_bits_are_near_and_freed(make_engine: Callable[..., Any], dtype: str, tmp_path: Path) -> None:
    """The float weights of the layers are gone once the engine is ready."""
    import torch

    engine = make_engine("decoder_llama", "compiled_int8", "captured", dtype=dtype)
    assert engine.facts().weight_bits == 8
    for layer in engine.steps.decoder.layers:
        assert all(part.weight.dtype == torch.int8 for part in (layer.qkv, layer.o, layer.gate_up, layer.down))
    prompt = prompt_ids(20)
    tokens = run_request(engine, prompt, 20)
    logits = saved_logits(engine, prompt, tokens, tmp_path / "logits.safetensors")
    assert tokens == logits.argmax(-1).tolist()
    errors = logit_errors(
        whole_sequence_logits(build_tiny_model("decoder_llama"), prompt, tokens).numpy(), logits.numpy()
    )
    # With weights rounded alike, transformers is 0.07 (float16) and 0.10 (bfloat16) from its float32 logits.
    assert 1e-3 < errors.distances["rms"].max() < (0.1 if dtype == "float16" else 0.15)
    counters = engine.counters()
    assert counters["decode_replays"] == counters["decode_steps"]


def test_replays_of_a_sampled_graph_differ_and_repeat(make_engine: Callable[..., Any]) -> None:
    """Trap 7. Seen to fail with noise whose state a step does not move on."""
    from firsttoken.plan import Sampling

    engine = make_engine("llama_gqa", "compiled", "captured", sampling=Sampling(method="sample", temperature=2.0))
    first, second = run_request(engine, prompt_ids(13), 20), run_request(engine, prompt_ids(13), 20)
    assert first != second
    engine.reseed(5)
    again = run_request(engine, prompt_ids(13), 20)
    engine.reseed(5)
    assert run_request(engine, prompt_ids(13), 20) == again
