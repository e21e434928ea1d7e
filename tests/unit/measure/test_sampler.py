"""What the sampler reads: the kernel's own figures for a real process tree, and NVML through a fake driver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from firsttoken.hardware import NVML_NOT_HERE
from firsttoken.measure import sampler
from firsttoken.measure.sampler import GpuReader, ProcessTree, cpu_busy_s, peak_resident_bytes

MIB = 1 << 20
HANDLE = "handle of GPU-1"
HOLD = """
import sys
held = bytearray(80 << 20)
held[::4096] = b"x" * len(held[::4096])
deadline_s = float(sys.argv[1])
import time
while time.process_time() < deadline_s:
    pass
print("held", flush=True)
sys.stdin.read()
"""


def start_child(cpu_s: float = 0.0) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cpu_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_the_tree_counts_its_children_and_never_forgets_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "TREE_INTERVAL_S", 0.0)
    tree = ProcessTree(os.getpid())
    before_s = tree.cpu_s()
    child = start_child(cpu_s=0.3)
    assert child.pid in tree.pids()
    with_child_s = tree.cpu_s()
    assert with_child_s - before_s >= 0.25, "0.3 s, rounded down to kernel ticks"
    child.communicate("")
    assert child.pid not in tree.pids()
    assert tree.cpu_s() >= with_child_s, "the work of a process that ended stays counted"


def test_host_memory_covers_the_children() -> None:
    """Without this process itself, whose own peak may hide them when other tests ran in it."""
    tree = ProcessTree(os.getpid())
    children = [start_child(), start_child()]
    both = tree.host_bytes(without=frozenset({os.getpid()}))
    one = tree.host_bytes(without=frozenset({os.getpid(), children[0].pid}))
    own = peak_resident_bytes(os.getpid())
    everybody = tree.host_bytes()
    for child in children:
        child.communicate("")
    assert one > 80 * MIB and both - one > 70 * MIB, "two children hold 80 MiB each"
    assert everybody >= max(both, own)


def test_a_process_that_has_ended_has_no_memory() -> None:
    child = start_child()
    child.communicate("")
    assert peak_resident_bytes(child.pid) == 0


def test_busy_time_grows_with_work() -> None:
    cores = os.sched_getaffinity(0)
    begun_s, before_s = time.process_time(), cpu_busy_s(cores)
    while time.process_time() - begun_s < 0.3:
        pass
    assert cpu_busy_s(cores) - before_s >= 0.25
    assert cpu_busy_s(set()) == 0.0


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value


class FakeDriver:
    """NVML for one H200; a function named in `refused` raises with its error number."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, **refused: int) -> None:
        self.refused = refused
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetName": "NVIDIA H200",
            "nvmlDeviceGetApplicationsClock": 1830,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetClockInfo": 1755,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x4,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x8,
            "nvmlDeviceGetPowerUsage": 412_000,
            "nvmlDeviceGetTotalEnergyConsumption": 5_000_000,
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=87, memory=60),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=123),
            "nvmlDeviceGetComputeRunningProcesses_v3": [
                SimpleNamespace(pid=10, usedGpuMemory=99),
                SimpleNamespace(pid=11, usedGpuMemory=None),
            ],
            "nvmlDeviceGetTemperature": 41,
        }

        def answer(handle: str, *arguments: Any) -> Any:
            assert handle == HANDLE
            if name in self.refused:
                raise NVMLError(self.refused[name])
            return answers[name]

        return answer


def test_a_reading_is_in_our_units() -> None:
    reader = GpuReader(FakeDriver(), HANDLE)
    reading = reader.read({10})
    assert (reader.name, reader.reference_clock_mhz()) == ("NVIDIA H200", 1830)
    assert (reading.power_w, reading.energy_j, reading.utilization) == (412.0, 5000.0, 0.87)
    assert (reading.sm_clock_mhz, reading.temperature_c, reading.used_bytes, reading.reasons) == (1755, 41, 123, 4)
    assert [(p.pid, p.bytes, p.own) for p in reading.processes or ()] == [(10, 99, True), (11, None, False)]


@pytest.mark.parametrize("error", [2, 3, 4, 13, 26])
def test_what_a_driver_does_not_tell_is_none_or_the_older_name(error: int) -> None:
    driver = FakeDriver(
        nvmlDeviceGetApplicationsClock=error,
        nvmlDeviceGetCurrentClocksEventReasons=error,
        nvmlDeviceGetTotalEnergyConsumption=error,
        nvmlDeviceGetComputeRunningProcesses_v3=error,
    )
    reader = GpuReader(driver, HANDLE)
    reading = reader.read(set())
    assert reader.reference_clock_mhz() == 1980
    assert (reading.reasons, reading.energy_j, reading.processes) == (8, None, None)


def test_a_lost_gpu_ends_the_sampler() -> None:
    reader = GpuReader(FakeDriver(nvmlDeviceGetPowerUsage=15), HANDLE)  # NVML_ERROR_GPU_IS_LOST
    with pytest.raises(NVMLError):
        reader.read(set())


def test_the_fake_speaks_as_the_real_module_does() -> None:
    """What the reader uses exists in nvidia-ml-py, and the error numbers mean what we say."""
    pynvml = pytest.importorskip("pynvml")
    import inspect
    import re

    source = inspect.getsource(GpuReader)
    names = set(re.findall(r"\bnvml[A-Z]\w+|\bNVML_\w+", source))
    assert len(names) > 10
    assert [name for name in sorted(names) if not hasattr(pynvml, name)] == []
    errors = ("INVALID_ARGUMENT", "NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "DEPRECATED")
    assert tuple(getattr(pynvml, f"NVML_ERROR_{error}") for error in errors) == NVML_NOT_HERE
