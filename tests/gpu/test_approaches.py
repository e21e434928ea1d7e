"""On the device: approaches in one process, through their own door, against a plain float32 forward on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.engines import whole_sequence_logits
from fakes.sinks import OneByOne
from firsttoken.approaches.base import approach_class
from firsttoken.plan import Device, Plan
from unit.tiny_models import build_tiny_model, prompt_ids

torch = pytest.importorskip("torch")

FAMILY, LENGTHS, NEW_TOKENS = "llama_gqa", (5, 20), 12
DEVICE: Device = "cuda"


@pytest.mark.parametrize(
    "name", ["baseline", "eager_loop", "jit_only", "cuda_graph_1p", "jit_cuda_1p", "static_compile"]
)
def test_tokens_are_the_best_of_the_reference_and_nothing_compiles_again(
    name: str, model_dirs: dict[str, Path]
) -> None:
    plan = Plan(prompt_lengths=LENGTHS, new_tokens=NEW_TOKENS, max_context=64, dtype="float32", device=DEVICE)
    reference = build_tiny_model(FAMILY)
    with approach_class(name)() as approach:
        approach.load(model_dirs[FAMILY], plan)
        before = approach.counters()
        for length in (*LENGTHS, *LENGTHS):
            prompt, sink = prompt_ids(length), OneByOne()
            approach.generate(prompt, NEW_TOKENS, sink)
            logits = whole_sequence_logits(reference, prompt, sink.tokens)
            chosen = logits.gather(-1, torch.tensor([sink.tokens]).T)[:, 0]
            assert len(sink.tokens) == NEW_TOKENS
            assert bool((logits.max(-1).values - chosen <= 1e-3 * logits.abs().max()).all()), (length, sink.tokens)
        after = approach.counters()
    assert after["recompiles"] == before["recompiles"]
    assert after["decode_steps"] - before["decode_steps"] == 2 * len(LENGTHS) * (NEW_TOKENS - 1)
