"""On the device: sampled replays differ, a seed brings them back, and the draws follow the distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from fakes.engines import SAMPLED, run_request
from firsttoken.plan import Sampling
from unit.tiny_models import prompt_ids

torch = pytest.importorskip("torch")


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


@pytest.mark.parametrize("operations", ["native", "jit"])
def test_draws_follow_the_distribution(make_engine: Callable[..., Any], operations: str) -> None:
    """Trap 7: chi-squared against the softmax, at 5 standard deviations of the statistic."""
    draws = 4000
    engine = make_engine(operations=operations, sampling=Sampling(method="sample", temperature=0.9), dtype="float32")
    state, ops = engine.steps.state, engine.steps.ops
    vocab = state.logits.shape[-1]
    state.logits.copy_(torch.linspace(0, 3, vocab, device="cuda"))
    wanted = torch.softmax(state.logits[0] / 0.9, -1).double().cpu() * draws
    counts = torch.zeros(vocab, dtype=torch.float64)
    with torch.inference_mode():
        for _ in range(draws):
            state.position.fill_(3)
            ops.advance()
            counts[int(state.token)] += 1
    statistic = float(((counts - wanted) ** 2 / wanted).sum())
    freedom = vocab - 1
    assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)
