"""What the sampler's readings say about the measured requests, and about memory over the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import fmean, median

import msgspec

from firsttoken.measure.sampler import GpuReading, Readings, Sample, peak_resident_bytes
from firsttoken.measure.taint import (
    POWER_CAP,
    foreign_pids,
    merge,
    other_cores_median,
    reason_names,
    tainted_windows,
)
from firsttoken.results import MemoryRecord, MemoryReport, TelemetrySummary


def summarise(readings: Readings, span: tuple[int, int], tokens: int, threads: int) -> TelemetrySummary:
    """From the first request's start to the last one's end (`span`, ns); `tokens` were made in it."""
    start = readings.start
    inside = [sample for sample in readings.samples if span[0] <= sample.t_ns <= span[1]]
    gpu = [sample.gpu for sample in inside if sample.gpu is not None]
    clocks_mhz = [reading.sm_clock_mhz for reading in gpu if reading.sm_clock_mhz is not None]
    memory_clocks_mhz = [reading.memory_clock_mhz for reading in gpu if reading.memory_clock_mhz is not None]
    powers_w = [reading.power_w for reading in gpu if reading.power_w is not None]
    capped = [bool(reading.reasons & POWER_CAP) for reading in gpu if reading.reasons is not None]
    cpu_mhz = [sample.cpu_mhz for sample in inside if sample.cpu_mhz is not None]
    windows = tainted_windows(start, readings.samples, span, threads)
    joules_per_s = energy_rate_w(inside)
    energy_j = None if joules_per_s is None else joules_per_s * (span[1] - span[0]) / 1e9
    return TelemetrySummary(
        source=start.source,
        samples=len(inside),
        interval_s=start.interval_s,
        sm_clock_mhz_min=min(clocks_mhz, default=None),
        sm_clock_mhz_median=median(clocks_mhz) if clocks_mhz else None,
        memory_clock_mhz_median=median(memory_clocks_mhz) if memory_clocks_mhz else None,
        temperature_c_max=max((r.temperature_c for r in gpu if r.temperature_c is not None), default=None),
        power_w_mean=fmean(powers_w) if powers_w else None,
        power_cap_share=fmean(capped) if capped else None,
        energy_j=energy_j,
        energy_j_per_token=energy_j / tokens if energy_j is not None and tokens else None,
        cpu_load_mean=cpu_load(inside, start.cores),
        other_cores_median=other_cores_median(readings.samples, span),
        cpu_mhz_median=median(cpu_mhz) if cpu_mhz else None,
        throttle_reasons=tuple(sorted({name for reading in gpu for name in reason_names(reading.reasons or 0)})),
        other_processes=most_other_processes(readings.samples, gpu, span[0]),
        tainted_windows=merge(windows),
        taint_reasons=tuple(sorted({window.reason for window in windows})),
    )


def energy_rate_w(inside: Sequence[Sample]) -> float | None:
    """Joules a second by the energy counter between the first and the last reading; None without two of them.

    The rate and not the difference, since the readings begin and end up to an interval inside the span.
    """
    read = [(sample.t_ns, sample.gpu.energy_j) for sample in inside if sample.gpu and sample.gpu.energy_j is not None]
    if len(read) < 2:
        return None
    (first_ns, first_j), (last_ns, last_j) = read[0], read[-1]
    return (last_j - first_j) / ((last_ns - first_ns) / 1e9)


def cpu_load(inside: Sequence[Sample], cores: int) -> float | None:
    """Share of our cores that was busy with anybody's work, 0 to 1; None without two samples."""
    if len(inside) < 2:
        return None
    seconds = (inside[-1].t_ns - inside[0].t_ns) / 1e9
    return min(1.0, (inside[-1].cpu_busy_s - inside[0].cpu_busy_s) / (seconds * cores))


def most_other_processes(samples: Sequence[Sample], inside: Sequence[GpuReading], span_start_ns: int) -> int:
    """The most compute processes of others that were on the GPU at once."""
    foreign = foreign_pids(samples, span_start_ns)
    return max((len({process.pid for process in reading.processes or ()} & foreign) for reading in inside), default=0)


def memory_record(report: MemoryReport, readings: Readings) -> MemoryRecord:
    """The five quantities, bytes; None where nobody can tell.

    `device_over_idle` is the whole device's use over its first reading, which was taken before anything was loaded:
    it also counts CUDA contexts and libraries, and whatever others took meanwhile. `host_peak` is the largest
    proportional set size of the process tree, at least the peak resident size of its largest process.
    """
    gpu = [sample.gpu for sample in readings.samples if sample.gpu is not None]
    used = [reading.used_bytes for reading in gpu if reading.used_bytes is not None]
    trees = [size for size in map(tree_bytes, gpu) if size is not None]
    host = [sample.host_bytes for sample in readings.samples if sample.host_bytes is not None]
    return MemoryRecord(
        **msgspec.structs.asdict(report),
        device_process_tree_bytes=max(trees, default=None),
        device_over_idle_bytes=max(used) - used[0] if used else None,
        host_peak_bytes=max([*host, peak_resident_bytes(os.getpid())]),
    )


def tree_bytes(reading: GpuReading) -> int | None:
    """Device memory of our own processes; None where the driver hides it or names them by other pids."""
    own = [process.bytes for process in reading.processes or () if process.own]
    known = [size for size in own if size is not None]
    return sum(known) if known else None
