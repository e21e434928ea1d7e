"""What a capture's failure makes of the approach: a verdict on it, or a fault that the next try may not meet."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from firsttoken.engine.graph_cache import GraphCache  # noqa: E402
from firsttoken.engine.graphs import EagerStep  # noqa: E402
from firsttoken.plan import Plan, Unsupported  # noqa: E402
from firsttoken.transient import Transient  # noqa: E402

PREFILL, DECODE = "prefill", "decode"
FAULTS = [OSError(28, "No space left"), torch.OutOfMemoryError("memory"), Transient("killed")]


def make_cache(fails: str, error: Exception) -> GraphCache:
    """A cache of a device on which every capture of that kind raises `error`."""

    def make_step(live: str, warm_up: str | None) -> EagerStep:
        if live == fails:
            raise error
        return EagerStep(lambda: None)

    def run(job: Callable[[], Any]) -> Any:
        return job()

    steps: Any = SimpleNamespace(
        capacity=64, prefill=lambda key, scratch=False: PREFILL, decode=lambda bucket, scratch=False: DECODE
    )
    backend: Any = SimpleNamespace(make_step=make_step, shared_graph_bytes=0)
    worker: Any = SimpleNamespace(run=run, later=run)
    plan = Plan(prompt_lengths=(8,), new_tokens=2, max_context=16, dtype="float32", device="cpu", threads=1)
    return GraphCache(steps, backend, worker, plan, replays=True)


@pytest.mark.parametrize("kind", [PREFILL, DECODE])
def test_a_step_that_cannot_be_captured_makes_the_approach_unavailable(kind: str) -> None:
    with pytest.raises(Unsupported, match="cannot be captured"):
        make_cache(kind, RuntimeError("operation not permitted when stream is capturing"))


@pytest.mark.parametrize("kind", [PREFILL, DECODE])
@pytest.mark.parametrize("error", FAULTS)
def test_a_fault_beside_the_step_is_no_verdict(kind: str, error: Exception) -> None:
    """Seen failing: it was `unavailable` for good."""
    with pytest.raises(type(error)):
        make_cache(kind, error)
