"""Gaps beside captures, on the experiments' pool, which captures in the background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, sleep

import pytest

from firsttoken.approaches.base import TokenSink
from firsttoken.measure import capture_beside
from firsttoken.measure.capture_beside import BURST, ROUNDS, measure_capture_beside
from firsttoken.plan import Plan
from unit.measure.test_experiments import Pooled, prompts

PLAN = Plan(prompt_lengths=(4,), new_tokens=3, max_context=7, dtype="float32", device="cpu")
FAILING = 66  # the length that `Pooled` never captures
LENGTHS = range(4, 5 + BURST * (2 * ROUNDS + 1))


class Slowed(Pooled):
    """Tokens come one by one, later while a capture is under way."""

    looks_until_captured = BURST + 5

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        super().generate(prompt_ids, 0, sink)
        if self.hit:
            self.held.move_to_end(len(prompt_ids))
        for _ in range(max_new_tokens):
            until_s = perf_counter() + (1.5e-3 if self.pending else 0.5e-3)
            sleep(max(until_s - perf_counter(), 0))
            sink.push(1)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_beside, "LONG_TOKENS", 30)
    monkeypatch.setattr(capture_beside, "SHORT_TOKENS", 10)


def test_gaps_are_told_apart_by_load_and_by_what_ran_beside(tmp_path: Path) -> None:
    """Seen failing: requests of the burst counted as timed ones; captures awaited before the timed requests."""
    rows = measure_capture_beside(Slowed, tmp_path, PLAN, prompts(*LENGTHS), print)
    assert [(row.load, row.beside) for row in rows] == [
        ("short requests", False), ("short requests", True), ("long requests", False), ("long requests", True),
    ]  # fmt: skip
    for row in rows:
        assert row.gaps == row.requests * (9 if row.load == "short requests" else 29)
    for alone, beside in (rows[:2], rows[2:]):
        assert beside.median_ms > 1.4 and alone.median_ms < 1.4
        assert beside.median_ms <= beside.p99_ms <= beside.max_ms
        assert (alone.captures, beside.captures) == (0, ROUNDS * BURST)
        assert alone.capture_ms is None and (beside.capture_ms or 0) > 0
    assert [row.gaps for row in rows[::2]] == [ROUNDS * 3 * 9, ROUNDS * 29]


def test_too_few_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prompts of 41 lengths are needed, found 40"):
        measure_capture_beside(Slowed, tmp_path, PLAN, prompts(*LENGTHS[:-1], LENGTHS[0]), print)


def test_a_timed_request_that_missed_is_refused(tmp_path: Path) -> None:
    """Else the gaps would not be those of a captured prompt."""

    class Forgetful(Slowed):
        def _capture(self, length: int) -> None:
            super()._capture(length)
            self.held.pop(4, None)

    with pytest.raises(ValueError, match="a prompt of 4 tokens was no hit of the pool"):
        measure_capture_beside(Forgetful, tmp_path, PLAN, prompts(*LENGTHS), print)


def test_a_failed_capture_is_an_error(tmp_path: Path) -> None:
    lengths = [FAILING if length == 20 else length for length in LENGTHS]
    with pytest.raises(ValueError, match="a capture failed"):
        measure_capture_beside(Slowed, tmp_path, PLAN, prompts(*lengths), print)
