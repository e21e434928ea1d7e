"""When the machine was not the one that we mean to measure: from the sampler's readings to windows of time.

A sample in a tainted window is kept, flagged and left out of the statistics. The rules:

* **GPU throttled**: a hardware slowdown, a thermal slowdown (hardware or software) or a power brake was in force.
* **GPU clock**: below 75 % of its application clock (of its highest where it has none) while busy, which is NVBench's
  share, unless the GPU is at its power limit. There its clock is what this very load leaves: without those requests,
  approaches that draw most would look faster than they are. How often a run was at the limit is recorded.
* **Another compute process** on the GPU.
* **CPU** (where there is no NVML): over half a second, others used so much of our cores that fewer than half of our
  threads could have run, and by half of our threads more than they usually did in this run. So a burst of other work
  taints; a machine that is shared from the first request to the last is measured as it is, and the record says how much
  others used (`other_cores_median`): no sample of it is better than another, and the intervals show the price.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from firsttoken.measure.sampler import GpuReading, Sample, SamplerStart
from firsttoken.plan import Record

# nvml.h, nvmlClocksEventReasons
GPU_IDLE = 0x1
THROTTLED = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
POWER_CAP = 0x4
RECORDED_ONLY = {
    0x02: "application clocks setting",
    POWER_CAP: "power cap",
    0x10: "sync boost",
    0x100: "display clock setting",
}
LEAST_CLOCK_SHARE = 0.75
CPU_WINDOW_NS = 500_000_000  # kernel ticks of 10 ms are too coarse for one sample's 100 ms
LATEST_NS = 1_000_000_000  # a sampler that is silent for longer than this before the end has ended


class Window(Record, frozen=True, kw_only=True):
    """A stretch of CLOCK_MONOTONIC and what was wrong in it."""

    start_ns: int
    end_ns: int
    reason: str


def reason_names(bits: int) -> tuple[str, ...]:
    """The clock event reasons that are set, but for idling."""
    return tuple(name for bit, name in (THROTTLED | RECORDED_ONLY).items() if bits & bit)


def tainted_windows(
    start: SamplerStart, samples: Sequence[Sample], span: tuple[int, int], threads: int
) -> tuple[Window, ...]:
    """All windows that touch the measured span, ns from the first request's start to the last one's end."""
    windows = (
        gpu_windows(start, samples, span[0]) if start.source == "nvml" else cpu_windows(start, samples, threads, span)
    )
    last_ns = samples[-1].t_ns if samples else span[0]
    if span[1] - last_ns > LATEST_NS:
        windows.append(Window(start_ns=last_ns, end_ns=span[1], reason="the telemetry ended before the requests did"))
    return tuple(window for window in windows if window.start_ns < span[1] and window.end_ns > span[0])


def gpu_windows(start: SamplerStart, samples: Sequence[Sample], span_start_ns: int) -> list[Window]:
    """A reading speaks for the time from the sample before it to the one after it."""
    foreign = foreign_pids(samples, span_start_ns)
    windows = []
    for index, sample in enumerate(samples):
        if sample.gpu is None:
            continue
        begin = samples[max(index - 1, 0)].t_ns
        end = samples[min(index + 1, len(samples) - 1)].t_ns
        reasons = [f"GPU throttled: {name}" for bit, name in THROTTLED.items() if (sample.gpu.reasons or 0) & bit]
        if clock_too_low(sample.gpu, start.reference_clock_mhz):
            reasons.append(f"SM clock under {LEAST_CLOCK_SHARE:.0%} of {start.reference_clock_mhz:.0f} MHz")
        if any(process.pid in foreign for process in sample.gpu.processes or ()):
            reasons.append("another compute process on the GPU")
        windows += [Window(start_ns=begin, end_ns=end, reason=reason) for reason in reasons]
    return windows


def clock_too_low(reading: GpuReading, reference_mhz: float | None) -> bool:
    """Whether a busy GPU runs below its share of the reference clock, and not because of its power limit; idle GPUs
    rest at any clock."""
    if reading.sm_clock_mhz is None or not reference_mhz:
        return False
    explained = bool((reading.reasons or 0) & (GPU_IDLE | POWER_CAP)) or reading.utilization == 0
    return not explained and reading.sm_clock_mhz < LEAST_CLOCK_SHARE * reference_mhz


def foreign_pids(samples: Sequence[Sample], span_start_ns: int) -> set[int]:
    """Compute processes that are not ours.

    Where the driver's pids are ours to read, that is everybody outside our tree. In a container they are the host's
    or hidden, so that our own process looks foreign: then it is who was there before the model was loaded (the first
    sample) or who came after the first request started; who came in between counts as ours.
    """
    seen = [(sample.t_ns, process) for sample in samples if sample.gpu for process in sample.gpu.processes or ()]
    own = {process.pid for _, process in seen if process.own}
    if own:  # a child is known as ours only once the tree has been looked at again
        return {process.pid for _, process in seen} - own
    first = samples[0].gpu if samples else None
    before_load = {process.pid for process in (first.processes or () if first else ())}
    before_span = {process.pid for t_ns, process in seen if t_ns <= span_start_ns}
    return before_load | ({process.pid for _, process in seen} - before_span)


def cpu_windows(start: SamplerStart, samples: Sequence[Sample], threads: int, span: tuple[int, int]) -> list[Window]:
    """Stretches of at least half a second in which others left fewer than half of our threads a core."""
    half_of_ours = min(threads, start.cores) / 2
    usual = other_cores_median(samples, span)
    if usual is None:
        return []
    limit = max(start.cores - half_of_ours, usual + half_of_ours)
    reason = f"other work used more than {limit:.3g} of {start.cores} cores"
    return [
        Window(start_ns=before.t_ns, end_ns=after.t_ns, reason=reason)
        for before, after in _stretches(samples)
        if others_cores(before, after) > limit
    ]


def other_cores_median(samples: Sequence[Sample], span: tuple[int, int]) -> float | None:
    """How many of our cores others kept busy in the usual half second of the span; None for a shorter one."""
    inside = [sample for sample in samples if span[0] <= sample.t_ns <= span[1]]
    used = [others_cores(before, after) for before, after in _stretches(inside)]
    return median(used) if used else None


def _stretches(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Pairs of samples at least `CPU_WINDOW_NS` apart, one after the other."""
    base = 0
    for index, sample in enumerate(samples):
        if sample.t_ns - samples[base].t_ns >= CPU_WINDOW_NS:
            yield samples[base], sample
            base = index


def others_cores(before: Sample, after: Sample) -> float:
    """How many of our cores others kept busy between two samples, on average."""
    seconds = (after.t_ns - before.t_ns) / 1e9
    return max(0.0, (after.cpu_busy_s - before.cpu_busy_s) - (after.tree_cpu_s - before.tree_cpu_s)) / seconds


def overlapping(
    starts_ns: NDArray[np.int64], ends_ns: NDArray[np.int64], windows: Sequence[tuple[int, int]]
) -> NDArray[np.bool_]:
    """`[requests]`: which requests share time with a window."""
    tainted = np.zeros(len(starts_ns), dtype=np.bool_)
    for start_ns, end_ns in windows:
        tainted |= (starts_ns < end_ns) & (ends_ns > start_ns)
    return tainted


def merge(windows: Sequence[Window]) -> tuple[tuple[int, int], ...]:
    """The union of the windows as disjoint stretches in order of time."""
    merged: list[tuple[int, int]] = []
    for window in sorted(windows, key=lambda window: window.start_ns):
        if merged and window.start_ns <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], window.end_ns))
        else:
            merged.append((window.start_ns, window.end_ns))
    return tuple(merged)
