"""On the device: sampled replays differ, a seed brings them back, and the draws follow the distribution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.engines import SAMPLED, run_request, saved_logits
from fakes.sampled import FULL, assert_drawn_from, transformers_probabilities
from firsttoken.plan import GraphOptions
from unit.tiny_models import prompt_ids

torch = pytest.importorskip("torch")

# Forms of the dynamic operations under replay; `decoder_llama` is computed by our own decoder, captured whole.
REPLAYED = [
    ("llama_gqa", "graph", "native"),
    ("llama_gqa", "graph", "published"),
    ("llama_gqa", "graph", "jit"),
    ("llama_gqa", "compiled", "captured"),
    ("decoder_llama", "compiled", "captured"),
]
FORMS = pytest.mark.parametrize(("family", "forward", "operations"), REPLAYED)


@pytest.mark.parametrize("operations", ["native", "jit"])
def test_sampled_requests_differ_and_a_seed_brings_them_back(make_engine: Callable[..., Any], operations: str) -> None:
    """Trap 7. Guards against random state that a replay repeats, or that a capture beside it disturbs."""
    engine = make_engine(operations=operations, sampling=SAMPLED)
    first, second = (run_request(engine, prompt_ids(5), 20) for _ in range(2))
    assert first != second
    assert engine.worker.run(lambda: engine.graphs.pool.fill(9))
    engine.reseed(engine.plan.seed)
    assert run_request(engine, prompt_ids(5), 20) == first
    assert engine.counters()["recompiles"] == 0


@FORMS
def test_replays_draw_from_what_the_filters_leave(
    make_engine: Callable[..., Any], family: str, forward: str, operations: str, tmp_path: Path
) -> None:
    """Trap 7: the first token, and the second given the first, against transformers' processors over the engine's own
    logits."""
    engine, prompt = make_engine(family, forward, operations, sampling=FULL), prompt_ids(13)
    drawn = [run_request(engine, prompt, 2) for _ in range(2000)]
    second = defaultdict(list)
    for first, then in drawn:
        second[first].append(then)
    first, tokens = max(second.items(), key=lambda pair: len(pair[1]))
    assert len(tokens) > 200
    logits = saved_logits(engine, prompt, [first, 0], tmp_path / "logits.safetensors")
    assert_drawn_from([pair[0] for pair in drawn], transformers_probabilities(logits[:1], prompt, FULL))
    assert_drawn_from(tokens, transformers_probabilities(logits[1:], [*prompt, first], FULL))
    counters = engine.counters()
    assert counters["recompiles"] == 0 and counters["decode_replays"] == counters["decode_steps"]


@FORMS
def test_a_penalty_remembers_its_own_request_alone(
    make_engine: Callable[..., Any], family: str, forward: str, operations: str
) -> None:
    """Padded prompts, replayed and run eagerly. Guards against a mask that a captured prefill does not clear."""
    graphs = GraphOptions(kv_buckets=(16, 24), prefill_buckets=(16,))
    engine = make_engine(family, forward, operations, sampling=FULL, graphs=graphs)
    for length in (13, 5, 20, 9):
        prompt = prompt_ids(length, seed=1)
        tokens = run_request(engine, prompt, 8)
        if operations == "published":
            assert engine.steps.ops._ids.tolist() == [[*prompt, *tokens]]
        else:
            assert torch.nonzero(engine.steps.state.seen[0]).flatten().tolist() == sorted({*prompt, *tokens})
