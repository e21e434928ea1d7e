"""On the device: replayed steps against a plain float32 forward on the CPU, in both half precisions, for every
family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.engines import run_request, saved_logits, whole_sequence_logits
from unit.tiny_models import FAMILIES, build_tiny_model, prompt_ids

torch = pytest.importorskip("torch")

# Largest error of a logit, as a share of the largest logit: some tens of roundings (2**-11 and 2**-8) through two
# layers.
SHARE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.15}


def check(engine: Any, family: str, dtype: str, tmp_path: Path) -> None:
    """Tokens are the best ones of the engine's own logits, and the logits those of the reference."""
    reference = build_tiny_model(family)
    for length in (5, 13, 20):
        prompt = prompt_ids(length)
        tokens = run_request(engine, prompt, 20)
        logits = saved_logits(engine, prompt, tokens, tmp_path / "logits.safetensors")
        assert tokens == logits.argmax(-1).tolist()
        wanted = whole_sequence_logits(reference, prompt, tokens)
        assert (logits - wanted).abs().max() < SHARE[dtype] * wanted.abs().max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_steps_give_the_reference_logits(
    make_engine: Callable[..., Any], family: str, dtype: str, tmp_path: Path
) -> None:
    check(make_engine(family, dtype=dtype), family, dtype, tmp_path)


@pytest.mark.parametrize("forward", ["eager", "graph"])
@pytest.mark.parametrize("operations", ["native", "jit"])
def test_all_four_forms_agree_in_float32(
    make_engine: Callable[..., Any], forward: str, operations: str, tmp_path: Path
) -> None:
    check(make_engine("mistral_window", forward, operations, dtype="float32"), "mistral_window", "float32", tmp_path)


def test_every_warm_request_replays_and_reports(make_engine: Callable[..., Any]) -> None:
    engine = make_engine()
    for _ in range(3):
        run_request(engine, prompt_ids(13), 7)
    counters = engine.counters()
    assert counters["decode_replays"] == counters["decode_steps"] == 3 * 6
    assert (counters["prefill_hits"], counters["prefill_misses"], counters["failed_captures"]) == (3, 0, 0)
    timings = engine.timings()
    assert len(timings) == 7
    assert all(row.device_ns > 0 and row.sampling_ns > 0 and row.launch_ns > 0 for row in timings)
    memory = engine.memory()
    assert memory.device_reserved_bytes >= memory.device_allocated_bytes > 0
    assert memory.graph_bytes is not None
