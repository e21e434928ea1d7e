"""The last token of a profile, from events as torch's profiler gives them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from firsttoken.approaches.base import approach_class
from firsttoken.measure.launches import MARK, MarkingSink, last_token, measure_launches
from firsttoken.plan import Plan


def event(name: str, start_us: float, duration_us: float = 1.0, device: str = "CPU") -> Any:
    span = SimpleNamespace(start=start_us, end=start_us + duration_us, elapsed_us=lambda: duration_us)
    return SimpleNamespace(name=name, time_range=span, device_type=SimpleNamespace(name=device))


PROFILE = [
    event("cudaLaunchKernel", 5),
    event("kernel", 8, device="CUDA"),
    event(MARK, 10),
    event("aten::mm", 11, 9),
    event("cudaLaunchKernel", 12, 3),
    event("kernel b", 24, 2, device="CUDA"),
    event("kernel a", 16, 4, device="CUDA"),
    event("cudaGraphLaunch", 17, 2),
    event("cudaEventSynchronize", 20, 6),
    event(MARK, 30),
    event(MARK, 30, device="CUDA"),
]


def test_the_rows_are_those_of_the_last_token_from_its_first_launch() -> None:
    rows = [(row.track, row.name, row.start_us, row.duration_us) for row in last_token("eager_loop", PROFILE)]
    assert rows == [
        ("device", "kernel a", 4, 4),
        ("device", "kernel b", 12, 2),
        ("host", "cudaLaunchKernel", 0, 3),
        ("host", "cudaGraphLaunch", 5, 2),
    ]


def test_a_profile_without_launches_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"saw no launch of eager_loop"):
        last_token("eager_loop", [event(MARK, 1), event("aten::mm", 2), event(MARK, 3)])


def test_on_a_cpu_nothing_is_launched() -> None:
    plan = Plan(prompt_lengths=(4,), new_tokens=3, max_context=7, dtype="float32", device="cpu")
    assert measure_launches((approach_class("eager_loop"),), Path("nowhere"), plan, [1, 2]) == []


def test_torchs_profiler_sees_the_marks() -> None:
    torch = pytest.importorskip("torch")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        MarkingSink().push_chunk([1, 2])
    assert [found.name for found in profiler.events()].count(MARK) == 2
