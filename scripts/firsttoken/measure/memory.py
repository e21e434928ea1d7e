"""Peaks of memory over a run: what the approach's allocator says, and what the sampler saw from outside."""

from __future__ import annotations

import os

from firsttoken.measure.sampler import GpuReading, Readings, peak_resident_bytes
from firsttoken.results import MemoryRecord, MemoryReport


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
        device_allocated_bytes=report.device_allocated_bytes,
        device_reserved_bytes=report.device_reserved_bytes,
        device_process_tree_bytes=max(trees, default=None),
        device_over_idle_bytes=max(used) - used[0] if used else None,
        graph_bytes=report.graph_bytes,
        host_peak_bytes=max([*host, peak_resident_bytes(os.getpid())]),
    )


def tree_bytes(reading: GpuReading) -> int | None:
    """Device memory of our own processes; None where the driver hides it or names them by other pids."""
    own = [process.bytes for process in reading.processes or () if process.own]
    known = [size for size in own if size is not None]
    return sum(known) if known else None
