"""Each taint rule on recorded samples, and what must not taint."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firsttoken.measure.sampler import GpuProcess, GpuReading, Sample, SamplerStart
from firsttoken.measure.taint import (
    Window,
    clock_too_low,
    cpu_windows,
    foreign_pids,
    merge,
    other_cores_median,
    overlapping,
    reason_names,
    tainted_windows,
)
from unit.measure.fakes import GPU_START, gpu_reading, sample

SECOND = 1_000_000_000


def run_with(reading: GpuReading) -> list[Sample]:
    """Ten samples at 10 Hz from second 1 on; the fifth is the given one."""
    return [sample(1 + index / 10, gpu=reading if index == 5 else gpu_reading()) for index in range(10)]


def reasons(samples: list[Sample], span_s: tuple[float, float] = (1.05, 1.85)) -> set[str]:
    span = (round(span_s[0] * SECOND), round(span_s[1] * SECOND))
    return {window.reason for window in tainted_windows(GPU_START, samples, span, threads=2)}


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        (0x08, "GPU throttled: hardware slowdown"),
        (0x20, "GPU throttled: software thermal slowdown"),
        (0x40, "GPU throttled: hardware thermal slowdown"),
        (0x80, "GPU throttled: hardware power brake"),
    ],
)
def test_throttling_taints_from_the_sample_before_to_the_one_after(bits: int, reason: str) -> None:
    windows = tainted_windows(GPU_START, run_with(gpu_reading(reasons=bits)), (SECOND, 2 * SECOND), threads=2)
    assert windows == (Window(start_ns=1_400_000_000, end_ns=1_600_000_000, reason=reason),)


@pytest.mark.parametrize("bits", [0x0, 0x1, 0x2, 0x4, 0x10, 0x100])
def test_idling_settings_and_a_power_cap_alone_do_not_taint(bits: int) -> None:
    assert reasons(run_with(gpu_reading(reasons=bits))) == set()


def test_a_power_cap_is_recorded() -> None:
    assert reason_names(0x4 | 0x1 | 0x40) == ("hardware thermal slowdown", "power cap")


@pytest.mark.parametrize(
    ("changes", "low"),
    [
        ({"sm_clock_mhz": 1484}, True),
        ({"sm_clock_mhz": 1485}, False),
        ({"sm_clock_mhz": 345, "utilization": 0.0}, False),
        ({"sm_clock_mhz": 345, "reasons": 0x1}, False),
        ({"sm_clock_mhz": 345, "utilization": None}, True),
        ({"sm_clock_mhz": 1260, "reasons": 0x4}, False),  # its own power limit
        ({"sm_clock_mhz": 1260, "reasons": 0x2}, True),
        ({"sm_clock_mhz": None}, False),
    ],
)
def test_a_busy_gpu_below_three_quarters_of_its_clock_is_tainted(changes: dict[str, object], low: bool) -> None:
    reading = gpu_reading(**changes)
    assert clock_too_low(reading, 1980) is low
    assert not clock_too_low(reading, None)
    assert reasons(run_with(reading)) == ({"SM clock under 75% of 1980 MHz"} if low else set())


def test_another_compute_process_taints() -> None:
    other = GpuProcess(pid=99, bytes=None, own=False)
    reading = gpu_reading(processes=(*(gpu_reading().processes or ()), other))
    assert reasons(run_with(reading)) == {"another compute process on the GPU"}


def test_a_child_that_was_seen_before_it_was_known_as_ours_is_not_foreign() -> None:
    def seen(**own: bool) -> GpuReading:
        return gpu_reading(processes=tuple(GpuProcess(pid=int(p[1:]), bytes=None, own=mine) for p, mine in own.items()))

    early = sample(0, gpu=seen(p7=True, p8=False, p9=False))
    assert foreign_pids([early, sample(1, gpu=seen(p7=True, p8=True, p9=False))], SECOND) == {9}


def test_pids_of_another_namespace_do_not_make_ourselves_foreign() -> None:
    """In a container the driver gives the host's pids: ours look foreign, from loading on."""

    def seen(*pids: int) -> GpuReading:
        return gpu_reading(processes=tuple(GpuProcess(pid=pid, bytes=None, own=False) for pid in pids))

    loading_then_running = [sample(0, gpu=seen()), sample(1, gpu=seen(5001)), sample(2, gpu=seen(5001))]
    assert foreign_pids(loading_then_running, round(1.5 * SECOND)) == set()
    there_before = [sample(0, gpu=seen(42)), *loading_then_running[1:]]
    assert foreign_pids(there_before, round(1.5 * SECOND)) == {42}
    came_later = [*loading_then_running, sample(3, gpu=seen(5001, 43))]
    assert foreign_pids(came_later, round(1.5 * SECOND)) == {43}


def test_a_sampler_that_died_taints_the_rest() -> None:
    samples = run_with(gpu_reading())  # the last is at 1.9 s
    (window,) = tainted_windows(GPU_START, samples, (SECOND, 4 * SECOND), threads=2)
    assert (window.start_ns, window.end_ns) == (1_900_000_000, 4 * SECOND)
    assert "telemetry ended" in window.reason
    assert tainted_windows(GPU_START, samples, (SECOND, round(2.8 * SECOND)), threads=2) == ()


def test_what_happened_before_the_requests_does_not_taint() -> None:
    samples = run_with(gpu_reading(reasons=0x40))
    assert reasons(samples, (1.7, 1.8)) == set()


def cpu_samples(others_cores: list[float], own_cores: float = 0.5) -> list[Sample]:
    """At 10 Hz from second 0, half a second for each figure of what others use."""
    samples, busy_s = [sample(0)], 0.0
    for index, others in enumerate(np.repeat(others_cores, 5).tolist(), 1):
        busy_s += (others + own_cores) / 10
        samples.append(sample(index / 10, busy_s=busy_s, tree_s=own_cores * index / 10))
    return samples


def cpu_tainted(cores: int, threads: int, samples: list[Sample]) -> tuple[tuple[int, int], ...]:
    start = SamplerStart(source="cpu", cores=cores, interval_s=0.1)
    return merge(cpu_windows(start, samples, threads, (0, samples[-1].t_ns)))


@pytest.mark.parametrize(
    ("cores", "threads", "burst", "tainted"),
    [
        (2, 2, 0.9, False),  # a shared machine: our two threads had 1.1 cores
        (2, 2, 1.1, True),
        (2, 1, 1.4, False),
        (2, 1, 1.6, True),
        (16, 2, 14.0, False),  # many cores, most busy, ours free
        (16, 2, 15.5, True),
        (2, 8, 0.9, False),  # more threads than cores is our own doing
    ],
)
def test_a_burst_taints_when_half_of_our_threads_cannot_run(
    cores: int, threads: int, burst: float, tainted: bool
) -> None:
    expected = ((SECOND, round(1.5 * SECOND)),) if tainted else ()
    assert cpu_tainted(cores, threads, cpu_samples([0.05, 0.05, burst, 0.05, 0.05])) == expected


def test_a_machine_that_is_shared_throughout_is_recorded_and_not_tainted() -> None:
    """Tainting every sample would leave nothing to read; a burst beyond the usual still taints."""
    shared = cpu_samples([14.2] * 6, own_cores=1.0)
    assert cpu_tainted(16, 4, shared) == ()
    assert other_cores_median(shared, (0, shared[-1].t_ns)) == pytest.approx(14.2)
    heavier = cpu_samples([12.5, 12.5, 15.0, 12.5, 12.5], own_cores=1.0)
    assert cpu_tainted(16, 4, heavier) == ((SECOND, round(1.5 * SECOND)),)


def test_our_own_load_never_taints_a_cpu() -> None:
    assert cpu_tainted(2, 2, cpu_samples([0.0] * 5, own_cores=2.0)) == ()


def test_a_run_shorter_than_half_a_second_has_no_usual_load() -> None:
    assert other_cores_median(cpu_samples([1.0])[:4], (0, SECOND)) is None
    assert cpu_tainted(2, 2, cpu_samples([2.0])[:4]) == ()


INTERVALS = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 20)).map(lambda v: (v[0], v[0] + v[1])), max_size=12)


@given(INTERVALS)
def test_merging_keeps_the_union_and_makes_it_disjoint(intervals: list[tuple[int, int]]) -> None:
    merged = merge([Window(start_ns=start, end_ns=end, reason="") for start, end in intervals])
    assert {t for start, end in merged for t in range(start, end)} == {t for s, e in intervals for t in range(s, e)}
    assert all(before[1] < after[0] for before, after in pairwise(merged))


@given(INTERVALS, INTERVALS)
def test_a_request_is_tainted_when_it_shares_an_instant_with_a_window(
    requests: list[tuple[int, int]], windows: list[tuple[int, int]]
) -> None:
    bad = {t for start, end in windows for t in range(start, end)}
    starts, ends = (np.array([request[side] for request in requests], dtype=np.int64) for side in (0, 1))
    expected = [bool(bad & set(range(start, end))) for start, end in requests]
    assert overlapping(starts, ends, windows).tolist() == expected
