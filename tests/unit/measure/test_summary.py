"""The summary and the memory record of recorded samples."""

from __future__ import annotations

import os

import msgspec
import pytest

from firsttoken.measure.sampler import GpuProcess, Readings, SamplerStart, peak_resident_bytes
from firsttoken.measure.summary import memory_record, summarise
from firsttoken.results import MemoryReport
from unit.measure.fakes import GPU_START, gpu_reading, sample

SECOND = 1_000_000_000
GIB = 1 << 30


def gpu_run() -> Readings:
    """Ten seconds at 1 Hz: 300 J a second, clocks falling from 1980, one power cap at second 5."""
    samples = [
        sample(
            t,
            busy_s=4.0 * t,
            gpu=gpu_reading(
                sm_clock_mhz=1980 - 10 * t,
                energy_j=1000.0 + 300 * t,
                temperature_c=40 + t,
                power_w=290.0 + 2 * t,
                reasons=0x4 if t == 5 else 0,
                used_bytes=(GIB if t == 0 else 16 * GIB) + t,
                processes=() if t == 0 else (GpuProcess(pid=7, bytes=15 * GIB - t, own=True),),
            ),
        )
        for t in range(11)
    ]
    return Readings(GPU_START, tuple(samples))


def test_the_summary_covers_the_requests_only() -> None:
    found = summarise(gpu_run(), (2 * SECOND, 6 * SECOND), tokens=100, threads=2)
    assert (found.source, found.samples) == ("nvml", 5)
    assert (found.sm_clock_mhz_min, found.sm_clock_mhz_median) == (1920, 1940)
    assert found.temperature_c_max == 46
    assert found.power_w_mean == pytest.approx(298.0)
    assert found.energy_j == pytest.approx(4 * 300) and found.energy_j_per_token == pytest.approx(12.0)
    assert found.cpu_load_mean == pytest.approx(4.0 / 16)
    assert (found.throttle_reasons, found.power_cap_share) == (("power cap",), 0.2)
    assert (found.tainted_windows, found.taint_reasons, found.other_processes) == ((), (), 0)


def test_energy_counts_the_whole_span_though_readings_fall_within_it() -> None:
    found = summarise(gpu_run(), (round(1.5 * SECOND), round(6.5 * SECOND)), tokens=100, threads=2)
    assert found.energy_j == pytest.approx(5 * 300)


def test_a_throttled_run_says_when_and_why() -> None:
    readings = gpu_run()
    hot = [
        msgspec.structs.replace(s, gpu=gpu_reading(reasons=0x40)) if s.t_ns == 4 * SECOND else s
        for s in readings.samples
    ]
    found = summarise(Readings(GPU_START, tuple(hot)), (2 * SECOND, 6 * SECOND), tokens=100, threads=2)
    assert found.tainted_windows == ((3 * SECOND, 5 * SECOND),)
    assert found.taint_reasons == ("GPU throttled: hardware thermal slowdown",)


def test_without_readings_nothing_is_made_up() -> None:
    start = SamplerStart(source="cpu", cores=2, interval_s=0.1)
    found = summarise(Readings(start, (sample(1),)), (SECOND, SECOND + 100), tokens=4, threads=2)
    assert (found.samples, found.energy_j, found.cpu_load_mean, found.sm_clock_mhz_min) == (1, None, None, None)
    assert found.power_cap_share is None


def test_memory_of_allocator_tree_and_device() -> None:
    report = MemoryReport(device_allocated_bytes=1, device_reserved_bytes=2, graph_bytes=3)
    before = peak_resident_bytes(os.getpid())
    found = memory_record(report, gpu_run())
    assert (found.device_allocated_bytes, found.device_reserved_bytes, found.graph_bytes) == (1, 2, 3)
    assert found.device_process_tree_bytes == 15 * GIB - 1
    assert found.device_over_idle_bytes == 15 * GIB + 10
    assert found.host_peak_bytes is not None and found.host_peak_bytes >= before > 0


def test_device_memory_of_hidden_processes_is_unknown_not_zero() -> None:
    hidden = gpu_reading(processes=(GpuProcess(pid=7, bytes=15 * GIB, own=False),), used_bytes=None)
    found = memory_record(MemoryReport(), Readings(GPU_START, (sample(0, gpu=hidden),)))
    assert (found.device_process_tree_bytes, found.device_over_idle_bytes) == (None, None)
    assert memory_record(MemoryReport(), Readings(GPU_START, (sample(0),))).device_over_idle_bytes is None


def test_host_memory_is_the_largest_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [msgspec.structs.replace(sample(t), host_bytes=size) for t, size in ((0, 1 << 50), (1, 5), (2, None))]
    assert memory_record(MemoryReport(), Readings(GPU_START, tuple(looks))).host_peak_bytes == 1 << 50
