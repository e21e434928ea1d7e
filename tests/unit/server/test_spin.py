"""How long a side polls before it blocks, and where it does not poll at all."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from firsttoken.plan import Plan
from firsttoken.server.spin import Events, poll_for, usable_spin_us


@pytest.mark.parametrize(
    ("cores", "device", "threads", "usable"),
    [(1, "cuda", 1, 0), (2, "cuda", 1, 0), (3, "cuda", 8, 500), (3, "cpu", 2, 500), (4, "cpu", 4, 0)],
)
def test_a_side_polls_only_where_a_core_is_left_for_it(
    cores: int, device: Any, threads: int, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    plan = Plan(
        prompt_lengths=(4,), new_tokens=4, max_context=8, dtype="float32", device=device, threads=threads, spin_us=500
    )
    assert usable_spin_us(plan) == usable


@pytest.mark.parametrize(("comes_at", "looks"), [(0, 1), (2, 3), (99, 6)])
def test_a_poll_ends_when_something_comes_or_the_time_is_over(
    comes_at: int, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks) * 1000)
    waits: list[float] = []

    def poll(timeout: float) -> Events:
        waits.append(timeout)
        return [(7, 1)] if len(waits) > comes_at else []

    assert poll_for(poll, 6) == ([(7, 1)] if comes_at < 6 else [])
    assert waits == [0] * looks
