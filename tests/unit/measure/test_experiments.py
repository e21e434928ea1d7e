"""The pool experiments on a pool that captures in the background, as the real one does."""

from __future__ import annotations

import gc
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pytest

from firsttoken.approaches.base import Approach, TokenSink
from firsttoken.measure import experiments
from firsttoken.measure.experiments import measure_pool_memory, measure_pool_misses
from firsttoken.plan import GraphOptions, Plan
from firsttoken.results import MemoryReport, SetupTimes, TokenTiming
from unit.measure.fakes import Constant

GRAPH_BYTES = 1 << 20
PLAN = Plan(
    prompt_lengths=(4,),
    new_tokens=3,
    max_context=7,
    dtype="float32",
    device="cpu",
    graphs=GraphOptions(pool_capacity=3),
)


class Pooled(Approach):
    """Captures of a length end a few looks at the counters after they were asked for; one length never succeeds."""

    name = "pooled"
    title = "A pool"
    looks_until_captured = 3
    plans: list[Plan]

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        self.plan = plan
        self.held: OrderedDict[int, None] = OrderedDict()
        self.pending: dict[int, int] = {}
        self.captures = self.evictions = self.failed = self.misses = 0
        type(self).plans = [*getattr(type(self), "plans", []), plan]
        if plan.graphs.capture_beforehand:
            for length in plan.prompt_lengths:
                self._capture(length)
        return SetupTimes()

    def _capture(self, length: int) -> None:
        if length == 66:
            self.failed += 1
            return
        self.captures += 1
        self.held[length] = None
        while self.plan.graphs.rolling and len(self.held) > self.plan.graphs.pool_capacity:
            self.held.popitem(last=False)
            self.evictions += 1

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        assert len(prompt_ids) + max_new_tokens <= self.plan.max_context
        assert not gc.isenabled(), "seen failing: a collection within a request"
        self.hit = len(prompt_ids) in self.held
        if not self.hit:
            self.misses += 1
            self.pending[len(prompt_ids)] = self.looks_until_captured
        sink.push_chunk([1] * max_new_tokens)

    def timings(self) -> Sequence[TokenTiming]:
        return [TokenTiming(pool_hit=self.hit)]

    def memory(self) -> MemoryReport:
        return MemoryReport(graph_bytes=GRAPH_BYTES * len(self.held))

    def counters(self) -> dict[str, float]:
        for length in list(self.pending):
            self.pending[length] -= 1
            if self.pending[length] == 0:
                del self.pending[length]
                self._capture(length)
        return {
            "prefill_misses": self.misses,
            "captures": self.captures,
            "evictions": self.evictions,
            "failed_captures": self.failed,
        }

    def close(self) -> None:
        self.held.clear()


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> type[Pooled]:
    monkeypatch.setattr(experiments, "POLL_S", 0.0)
    return type("Pooled", (Pooled,), {"plans": []})


def prompts(*lengths: int) -> list[list[int]]:
    return [[1] * length for length in lengths]


def test_an_unbounded_pool_grows_and_a_rolling_one_does_not(pooled: type[Pooled], tmp_path: Path) -> None:
    used = itertools.count(10)
    rows = measure_pool_memory(pooled, tmp_path, PLAN, prompts(4, 9, 6, 30, 11, 12), print, lambda: next(used))
    held = {
        mode: [(row.graph_bytes or 0) // GRAPH_BYTES for row in rows if row.mode == mode]
        for mode in ("rolling", "unbounded")
    }
    assert held == {"rolling": [1, 2, 3, 3, 3, 3], "unbounded": [1, 2, 3, 4, 5, 6]}
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6] * 2
    assert [row.device_used_bytes for row in rows] == list(range(10, 22)), "the driver is asked once a row"
    assert [row.prompt_length for row in rows[:6]] == [4, 9, 6, 30, 11, 12]
    assert (rows[5].captures, rows[5].evictions, rows[11].evictions) == (6, 3, 0)
    assert all(row.host_bytes > 0 for row in rows)
    assert all(not plan.graphs.capture_beforehand and plan.max_context == 32 for plan in pooled.plans)


def test_a_failed_capture_is_counted_and_the_experiment_goes_on(pooled: type[Pooled], tmp_path: Path) -> None:
    rows = measure_pool_memory(pooled, tmp_path, PLAN, prompts(4, 66, 6, 30), print, lambda: None)
    assert [row.failed_captures for row in rows if row.mode == "rolling"][:3] == [0, 1, 1]


def test_misses_hits_and_lengths_captured_beforehand(pooled: type[Pooled], tmp_path: Path) -> None:
    rows = measure_pool_misses(pooled, tmp_path, PLAN, prompts(4, 9, 6, 30, 11), print)
    by_kind = {kind: [row for row in rows if row.kind == kind] for kind in ("miss", "after_capture", "beforehand")}
    assert [(row.prompt_length, row.pool_hit) for row in by_kind["miss"]] == [
        (length, False) for length in (9, 6, 30, 11)
    ]
    assert len(by_kind["after_capture"]) == len(by_kind["beforehand"]) == 4 * experiments.REQUESTS_AFTERWARDS
    assert all(row.pool_hit for row in by_kind["after_capture"] + by_kind["beforehand"])
    assert all(row.ttft_ms > 0 for row in rows)
    unknown, known = pooled.plans
    assert unknown.prompt_lengths == (4,), "loading knows none of the measured lengths"
    assert known.prompt_lengths == (4, 9, 6, 30, 11) and known.graphs.pool_capacity == 5


def test_a_length_that_is_in_the_pool_already_is_no_miss(pooled: type[Pooled], tmp_path: Path) -> None:
    class Bucketed(pooled):  # type: ignore[valid-type,misc]
        """All lengths share one bucket."""

        def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
            super().generate([1] * 4, max_new_tokens, sink)

    rows = measure_pool_misses(Bucketed, tmp_path, PLAN, prompts(4, 9, 6), print)
    assert {row.kind for row in rows} == {"after_capture", "beforehand"}


def test_a_capture_that_never_ends_is_an_error(
    pooled: type[Pooled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "CAPTURE_TIMEOUT_S", 0.05)
    pooled.looks_until_captured = 10**9
    with pytest.raises(RuntimeError, match="captures that were asked for did not end"):
        measure_pool_memory(pooled, tmp_path, PLAN, prompts(4, 9, 6, 30), print, lambda: None)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((4, 9, 6), "holds them all; give more lengths"),
        ((4, 9, 9, 6), "each of another length"),
        ((4,), "at least two"),
    ],
)
def test_lengths_that_show_nothing_are_refused(
    pooled: type[Pooled], tmp_path: Path, lengths: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure_pool_memory(pooled, tmp_path, PLAN, prompts(*lengths), print, lambda: None)


def test_an_approach_without_a_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pool of graphs"):
        measure_pool_memory(Constant, tmp_path, PLAN, prompts(4, 9, 6, 30), print, lambda: None)
