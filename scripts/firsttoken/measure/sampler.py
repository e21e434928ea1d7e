"""The process that watches the machine while another measures: `python -m firsttoken.measure.sampler DEVICE UUID
INTERVAL`.

Writes JSON lines to its standard output: one `SamplerStart`, then a `Sample` every interval. Lines on its standard
input say whether requests run ("measuring"); "stop", the end of the input, or the parent's death end it. The
tree that it watches is its parent's. Memory of the tree is read only while no requests run, since reading it holds
the watched process's memory lock.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any, Literal

import msgspec
import psutil

from firsttoken.hardware import ask, device_text, nvml, visible_handles
from firsttoken.plan import Record

TREE_INTERVAL_S = 1.0  # finding the tree's processes reads all of /proc: 2 ms


class SamplerStart(Record, frozen=True, kw_only=True):
    """What is watched. `reference_clock_mhz` is the application clock, or the highest where there is none."""

    source: Literal["nvml", "cpu"]
    cores: int
    interval_s: float
    gpu_name: str = ""
    reference_clock_mhz: float | None = None


class GpuProcess(Record, frozen=True, kw_only=True):
    """A compute process on the GPU, by the pid that the driver gives (in a container it may be the host's)."""

    pid: int
    bytes: int | None
    own: bool


class GpuReading(Record, frozen=True, kw_only=True):
    """One look at the GPU; None where this device or driver does not tell."""

    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    temperature_c: float | None
    power_w: float | None
    energy_j: float | None  # since the driver was loaded
    reasons: int | None  # nvmlClocksEventReasons bits
    utilization: float | None  # 0 to 1, over the driver's own window
    used_bytes: int | None
    processes: tuple[GpuProcess, ...] | None


class Sample(Record, frozen=True, kw_only=True):
    """One look at the machine. CPU seconds are cumulative over the cores that we may use."""

    t_ns: int  # CLOCK_MONOTONIC
    cpu_busy_s: float  # by anybody, and taken by the hypervisor
    tree_cpu_s: float  # by the measured process tree and this sampler
    cpu_mhz: float | None = None
    host_bytes: int | None = None
    gpu: GpuReading | None = None


@dataclass(frozen=True)
class Readings:
    """All that a sampler wrote; the first sample is the idle state before anything was loaded."""

    start: SamplerStart
    samples: tuple[Sample, ...]


class ProcessTree:
    """The sampler's parent and all that descends from it."""

    def __init__(self, root_pid: int) -> None:
        self._root = psutil.Process(root_pid)
        self._members: dict[int, psutil.Process] = {}
        self._last_cpu_s: dict[int, float] = {}
        self._cpu_s = 0.0
        self._found_s = -TREE_INTERVAL_S

    def pids(self) -> set[int]:
        """Who belongs to the tree, found anew every `TREE_INTERVAL_S`."""
        if perf_counter() - self._found_s >= TREE_INTERVAL_S:
            self._found_s = perf_counter()
            found = [self._root, *self._root.children(recursive=True)]
            self._members = {process.pid: process for process in found}
        return set(self._members)

    def cpu_s(self) -> float:
        """CPU seconds of all processes that were ever seen in the tree; it never falls when one ends."""
        for pid in self.pids():
            times = _unless_gone(self._members[pid].cpu_times)
            if times is not None:
                now_s = times.user + times.system
                self._cpu_s += max(0.0, now_s - self._last_cpu_s.get(pid, 0.0))
                self._last_cpu_s[pid] = now_s
        return self._cpu_s

    def host_bytes(self, without: frozenset[int] = frozenset()) -> int:
        """Proportional set size (PSS) summed over the tree, so that shared pages count once; `without` some pids.

        At least the largest peak of one process (VmHWM), which also sees what was freed between two looks.
        """
        self._found_s = -TREE_INTERVAL_S
        total = peak = 0
        for pid in self.pids() - without:
            full = _unless_gone(self._members[pid].memory_full_info)
            total += full.pss if full is not None else 0
            peak = max(peak, peak_resident_bytes(pid))
        return max(total, peak)


def _unless_gone(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended since the tree was found, or changed its user
        return None


def peak_resident_bytes(pid: int) -> int:
    """VmHWM of /proc/{pid}/status; 0 for a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def cpu_busy_s(cores: set[int]) -> float:
    """Seconds that these cores were not free, steal included: what the hypervisor took nobody here could use."""
    per_core = psutil.cpu_times(percpu=True)
    return float(sum(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
                     for core, times in enumerate(per_core) if core in cores))  # fmt: skip


class GpuReader:
    """Reads one GPU, by its handle, through NVML (`pynvml`, handed in so that a test can hand in a fake)."""

    def __init__(self, driver: Any, handle: Any) -> None:
        self._driver, self._handle = driver, handle
        self.name = device_text(driver, "nvmlDeviceGetName", handle)

    def ask(self, function: str, *arguments: Any) -> Any:
        """What NVML says of this GPU, or None."""
        return ask(self._driver, function, self._handle, *arguments)

    def reference_clock_mhz(self) -> float | None:
        """The clock that a busy GPU is meant to hold: the application clock, else the highest."""
        sm_clock = self._driver.NVML_CLOCK_SM
        clock_mhz = self.ask("nvmlDeviceGetApplicationsClock", sm_clock)
        clock_mhz = clock_mhz or self.ask("nvmlDeviceGetMaxClockInfo", sm_clock)
        return float(clock_mhz) if clock_mhz else None

    def read(self, tree: set[int]) -> GpuReading:
        """One look; `tree` are the pids that count as ours."""
        driver = self._driver
        reasons = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # drivers before 535 know it by its old name
            reasons = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        power_mw = self.ask("nvmlDeviceGetPowerUsage")
        energy_mj = self.ask("nvmlDeviceGetTotalEnergyConsumption")
        utilization = self.ask("nvmlDeviceGetUtilizationRates")
        memory = self.ask("nvmlDeviceGetMemoryInfo")
        known: tuple[GpuProcess, ...] | None = None
        processes = self.ask("nvmlDeviceGetComputeRunningProcesses_v3")
        if processes is not None:
            known = tuple(GpuProcess(pid=p.pid, bytes=p.usedGpuMemory, own=p.pid in tree) for p in processes)
        return GpuReading(
            sm_clock_mhz=self.ask("nvmlDeviceGetClockInfo", driver.NVML_CLOCK_SM),
            memory_clock_mhz=self.ask("nvmlDeviceGetClockInfo", driver.NVML_CLOCK_MEM),
            temperature_c=self.ask("nvmlDeviceGetTemperature", driver.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else power_mw / 1e3,
            energy_j=None if energy_mj is None else energy_mj / 1e3,
            reasons=reasons,
            utilization=None if utilization is None else utilization.gpu / 100,
            used_bytes=None if memory is None else memory.used,
            processes=known,
        )


def sample_until_told(parent: int, reader: GpuReader | None, interval_s: float) -> None:
    """Write the start and then samples until "stop", the end of the input, or the parent's death."""
    cores = os.sched_getaffinity(0)
    start = SamplerStart(
        source="nvml" if reader else "cpu",
        cores=len(cores),
        interval_s=interval_s,
        gpu_name=reader.name if reader else "",
        reference_clock_mhz=reader.reference_clock_mhz() if reader else None,
    )
    _write(start)
    tree = ProcessTree(parent)
    measuring, ending, memory_due_s = False, False, 0.0
    while os.getppid() == parent:
        look_at_memory = ending or (not measuring and perf_counter() >= memory_due_s)
        if look_at_memory:
            memory_due_s = perf_counter() + TREE_INTERVAL_S
        sample = Sample(
            t_ns=perf_counter_ns(),
            cpu_busy_s=cpu_busy_s(cores),
            tree_cpu_s=tree.cpu_s(),
            cpu_mhz=None if reader else _cpu_mhz(),
            host_bytes=tree.host_bytes(without=frozenset({os.getpid()})) if look_at_memory else None,
            gpu=reader.read(tree.pids()) if reader else None,
        )
        _write(sample)
        if ending:
            return
        for command in _commands(interval_s):
            measuring = command == "measuring"
            ending = ending or command == "stop"


def _write(record: Record) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
    sys.stdout.buffer.flush()


def _cpu_mhz() -> float | None:
    frequency = psutil.cpu_freq()
    return frequency.current if frequency else None


def _commands(timeout_s: float) -> list[str]:
    """The lines that the parent wrote within the time; its end of file is a "stop"."""
    if not select.select([0], [], [], timeout_s)[0]:
        return []
    data = os.read(0, 4096)
    return data.decode().split() if data else ["stop"]


def main(device: str, uuid: str, interval_s: float) -> None:
    """Watch the GPU `uuid` ("" takes the first that CUDA sees) or, without NVML or on a CPU, the CPU."""
    parent = os.getppid()
    with nvml() as driver:
        reader = None
        if device == "cuda" and driver is not None:
            handle = ask(driver, "nvmlDeviceGetHandleByUUID", uuid) if uuid else None
            if handle is None:  # a driver may know no UUIDs
                handle = next(iter(visible_handles(driver)), None)
            reader = None if handle is None else GpuReader(driver, handle)
        sample_until_told(parent, reader, interval_s)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
