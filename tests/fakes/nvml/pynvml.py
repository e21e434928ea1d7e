"""NVML of a machine with two GPUs: put this folder on PYTHONPATH before nvidia-ml-py.

The second draws 300 W, the first 100 W. `FAKE_NVML_REASONS` sets the clock event reasons of the second,
`FAKE_NVML_OTHER` puts another process on it from the start. `FAKE_NVML_MIG` partitions the second into two MIG devices.
`FAKE_NVML_HIDDEN` keeps the first from this process, as a cgroup does; `FAKE_NVML_REFUSED` names functions that this
device or driver does not support.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
UUIDS = ("GPU-11111111-aaaa", "GPU-22222222-bbbb")
NAMES = ("NVIDIA A100", "NVIDIA H200")
POWER_W = (100, 300)
MIG_UUIDS = ("MIG-33333333-aaaa", "MIG-33333333-bbbb")  # handles 10 and 11


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


def nvmlInit() -> None:
    pass


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return len(UUIDS)


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    if index not in range(len(UUIDS)):
        raise NVMLError(2)  # NVML_ERROR_INVALID_ARGUMENT
    if index == 0 and "FAKE_NVML_HIDDEN" in os.environ:
        raise NVMLError(4)  # NVML_ERROR_NO_PERMISSION
    return index


def nvmlDeviceGetHandleByUUID(uuid: str) -> int:
    if uuid not in UUIDS:
        raise NVMLError(6)  # NVML_ERROR_NOT_FOUND
    return UUIDS.index(uuid)


def nvmlDeviceGetName(gpu: int) -> str:
    return NAMES[gpu] if gpu < 10 else "NVIDIA H200 MIG 1g.18gb"


def nvmlDeviceGetUUID(gpu: int) -> str:
    return UUIDS[gpu] if gpu < 10 else MIG_UUIDS[gpu - 10]


def nvmlDeviceGetMaxMigDeviceCount(gpu: int) -> int:
    if gpu == 0:
        raise NVMLError(3)  # NVML_ERROR_NOT_SUPPORTED
    return 7 if "FAKE_NVML_MIG" in os.environ else 0


def nvmlDeviceGetMigDeviceHandleByIndex(gpu: int, place: int) -> int:
    if gpu != 1 or place not in (2, 5):
        raise NVMLError(6)  # NVML_ERROR_NOT_FOUND
    return {2: 10, 5: 11}[place]


def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance: int) -> int:
    if instance < 10:
        raise NVMLError(2)  # NVML_ERROR_INVALID_ARGUMENT
    return 1


def nvmlDeviceGetCudaComputeCapability(gpu: int) -> tuple[int, int]:
    if gpu >= 10:
        raise NVMLError(2)
    return ((8, 0), (9, 0))[gpu]


def nvmlSystemGetDriverVersion() -> str:
    return "570.1"


def nvmlSystemGetCudaDriverVersion() -> int:
    return 13000


def nvmlDeviceGetMemoryInfo(gpu: int) -> SimpleNamespace:
    if gpu >= 10:
        return SimpleNamespace(total=18 << 30, used=1 << 30, free=17 << 30)
    return SimpleNamespace(total=(80, 141)[gpu] << 30, used=(1, 2)[gpu] << 30, free=(79, 139)[gpu] << 30)


def nvmlDeviceGetApplicationsClock(gpu: int, clock: int) -> int:
    return (1410, 1980)[gpu]


def nvmlDeviceGetMaxClockInfo(gpu: int, clock: int) -> int:
    return (1410, 1980)[gpu]


def nvmlDeviceGetClockInfo(gpu: int, clock: int) -> int:
    return (1410, 1980)[gpu]


def nvmlDeviceGetCurrentClocksEventReasons(gpu: int) -> int:
    return int(os.environ.get("FAKE_NVML_REASONS", "0"), 0) if gpu == 1 else 0


def nvmlDeviceGetCurrentClocksThrottleReasons(gpu: int) -> int:  # its name before driver 535
    return nvmlDeviceGetCurrentClocksEventReasons(gpu)


def nvmlDeviceGetPowerUsage(gpu: int) -> int:
    return 1000 * POWER_W[gpu]


def nvmlDeviceGetTotalEnergyConsumption(gpu: int) -> int:
    return int(1000 * POWER_W[gpu] * time.monotonic())


def nvmlDeviceGetPersistenceMode(gpu: int) -> int:
    return (0, 1)[gpu]


def nvmlDeviceGetEnforcedPowerLimit(gpu: int) -> int:
    return (300_000, 700_000)[gpu]


def nvmlDeviceGetPowerManagementDefaultLimit(gpu: int) -> int:
    return (400_000, 700_000)[gpu]


def nvmlDeviceGetUtilizationRates(gpu: int) -> SimpleNamespace:
    return SimpleNamespace(gpu=90, memory=50)


def nvmlDeviceGetTemperature(gpu: int, sensor: int) -> int:
    return (35, 60)[gpu]


def nvmlDeviceGetComputeRunningProcesses_v3(gpu: int) -> list[SimpleNamespace]:
    others = [SimpleNamespace(pid=1, usedGpuMemory=1 << 30)] if gpu == 1 and "FAKE_NVML_OTHER" in os.environ else []
    return [*others, SimpleNamespace(pid=os.getppid(), usedGpuMemory=1 << 20)]


def _refuse(*_: object) -> None:
    raise NVMLError(3)  # NVML_ERROR_NOT_SUPPORTED


globals().update(dict.fromkeys(os.environ.get("FAKE_NVML_REFUSED", "").split(), _refuse))
