"""The GPUs of this machine as NVML and CUDA see them, and one measurement at a time on a device."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from firsttoken.results import Gpu

# Not TMPDIR, which differs between users and jobs, nor /run/lock, which some distributions keep for root.
LOCK_FOLDER = Path("/tmp")
POLL_S = 0.2
MESSAGE_INTERVAL_S = 5.0
# nvml.h: INVALID_ARGUMENT (of a MIG device), NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, DEPRECATED
NVML_NOT_HERE = (2, 3, 4, 13, 26)
LOG = logging.getLogger(__name__)


@contextmanager
def nvml() -> Iterator[Any]:
    """The initialised NVML module, or None where there is no driver."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def ask(driver: Any, function: str, *arguments: Any) -> Any:
    """What NVML says, or None where this device, user or driver does not give it; other errors are raised."""
    try:
        return getattr(driver, function)(*arguments)
    except driver.NVMLError as error:
        if error.value not in NVML_NOT_HERE:
            raise
        return None


@contextmanager
def device_memory(uuid: str, kind: Literal["used", "free"]) -> Iterator[Callable[[], int | None]]:
    """Gives a function that asks the driver for the bytes of that kind on that GPU; None for "" (a CPU)."""
    with nvml() as driver:
        handle = ask(driver, "nvmlDeviceGetHandleByUUID", uuid) if uuid and driver else None
        yield lambda: None if handle is None else getattr(ask(driver, "nvmlDeviceGetMemoryInfo", handle), kind, None)


def visible_gpus() -> list[Gpu]:
    """The GPUs that CUDA will see, in its order. What their driver does not tell is empty.

    NVML counts the GPUs by their place on the bus, and so does CUDA in our jobs (`CUDA_DEVICE_ORDER`, set by `job`).
    Raises ValueError where `CUDA_VISIBLE_DEVICES` names a device that is not here.
    """
    with nvml() as driver:
        return [] if driver is None else [_described(driver, handle) for handle in visible_handles(driver)]


def _described(driver: Any, handle: Any) -> Gpu:
    memory = ask(driver, "nvmlDeviceGetMemoryInfo", handle)  # None: a GPU that shares the host's memory
    physical = ask(driver, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle) or handle  # None: it is no part
    capability = ask(driver, "nvmlDeviceGetCudaComputeCapability", physical) or ()
    return Gpu(
        name=device_text(driver, "nvmlDeviceGetName", handle),
        uuid=device_text(driver, "nvmlDeviceGetUUID", handle),
        memory_bytes=memory.total if memory else 0,
        compute_capability=".".join(map(str, capability)),
    )


def visible_gpu() -> Gpu | None:
    """The first GPU that CUDA will see, or None. Raises as `visible_gpus`."""
    return next(iter(visible_gpus()), None)


def require_gpus() -> list[Gpu]:
    """The GPUs that CUDA will see. Raises RuntimeError where there is none."""
    gpus = visible_gpus()
    if not gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        where = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible!r}"
        raise RuntimeError(f"no CUDA device is visible here{where}; run on a GPU, on a cluster with gpu=1")
    return gpus


def require_gpu() -> Gpu:
    """The first GPU that CUDA will see. Raises RuntimeError where there is none."""
    return require_gpus()[0]


def see_only(place: int, gpu: Gpu) -> None:
    """Hide from here on all GPUs but number `place` of those that CUDA would see: no library may spread over others."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    entry = str(place) if visible is None else visible.split(",")[place].strip()
    os.environ["CUDA_VISIBLE_DEVICES"] = entry if entry.isdecimal() else gpu.uuid  # it may be given in short


def check_gpu(expected: str, found: str) -> None:
    """Raise RuntimeError where this job runs on another GPU than the config says; "" matches any."""
    if expected and found and found != expected:
        raise RuntimeError(f"config key hardware.gpu: expected {expected!r}, this job has {found!r}; ask for that GPU")


def driver_versions() -> tuple[str, str]:
    """The NVIDIA driver's version and the newest CUDA version that it supports; ("", "") without a driver."""
    with nvml() as driver:
        if driver is None:
            return "", ""
        cuda = ask(driver, "nvmlSystemGetCudaDriverVersion")
        version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else ""
        return _text(ask(driver, "nvmlSystemGetDriverVersion") or ""), version


def visible_handles(driver: Any) -> list[Any]:
    """NVML's handles for the entries of `CUDA_VISIBLE_DEVICES`, or of all GPUs; empty where CUDA will see no device.

    CUDA accepts an index, a GPU's UUID or any unique beginning of it, and a MIG device's UUID; an entry that names no
    device hides itself and all entries after it. NVML accepts whole UUIDs only, so UUIDs are compared here. NVML counts
    GPUs that a cgroup keeps from this process (a job of Slurm's), CUDA does not. Raises ValueError for a first entry
    that names no device, or several, of a machine that has some: a study would run on the CPU without a word.
    """
    places = range(ask(driver, "nvmlDeviceGetCount") or 0)
    gpus = [gpu for place in places if (gpu := ask(driver, "nvmlDeviceGetHandleByIndex", place)) is not None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    entries = [str(place) for place in range(len(gpus))] if visible is None else visible.split(",")
    handles: list[Any] = []
    for entry in map(str.strip, entries):
        if not gpus or not (entry.isdecimal() or entry.startswith(("GPU-", "MIG-"))):  # "" and -1 hide all on purpose
            break
        found = _named(driver, gpus, entry)
        if len(found) != 1:
            if handles:
                break
            raise ValueError(
                f"CUDA_VISIBLE_DEVICES: found {entry!r}, which names {len(found) or 'no'} of this machine's devices; "
                "give one by its index or whole UUID, as nvidia-smi -L lists them"
            )
        # CUDA sees the first MIG device of a partitioned GPU, never the GPU itself
        parts = [] if entry.startswith("MIG-") else _mig_instances(driver, found[0])
        handles.append(next(iter(parts), found[0]))
    return handles


def _named(driver: Any, gpus: list[Any], entry: str) -> list[Any]:
    """What an entry of `CUDA_VISIBLE_DEVICES` names."""
    if entry.isdecimal():
        return gpus[int(entry) : int(entry) + 1]
    named = gpus if entry.startswith("GPU-") else [mig for gpu in gpus for mig in _mig_instances(driver, gpu)]
    return [handle for handle in named if device_text(driver, "nvmlDeviceGetUUID", handle).startswith(entry)]


def device_text(driver: Any, function: str, handle: Any) -> str:
    """A name or UUID as NVML gives it; "" where it does not."""
    return _text(ask(driver, function, handle) or "")


def _mig_instances(driver: Any, gpu: Any) -> list[Any]:
    """The MIG devices of a GPU; empty where it is not partitioned."""
    instances = []
    for place in range(ask(driver, "nvmlDeviceGetMaxMigDeviceCount", gpu) or 0):
        with contextlib.suppress(driver.NVMLError):  # not found: places may be empty
            instances.append(driver.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place))
    return instances


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@contextmanager
def device_lock(*device_ids: str) -> Iterator[str]:
    """Hold the first of these devices (a GPU's uuid, or "cpu") that is free while the block runs; gives its id.

    An flock on a file for all users: the kernel releases it if this process dies. While others hold all of them, a line
    every five seconds names a holder. Raises RuntimeError where a file cannot be opened.
    """
    # Not the library filelock: jobs run in several environments (TensorRT-LLM's has a release of its own), and in
    # filelock 3.20 every process that waits truncates the lock file, so that the holder's name would be lost.
    device_id, handle = _acquire(device_ids)
    try:
        holder = f"{getpass.getuser()}, process {os.getpid()}, in {Path.cwd()}"
        with contextlib.suppress(OSError):  # a full disk: then others cannot name the holder
            os.ftruncate(handle, 0)
            os.pwrite(handle, holder.encode(), 0)
        yield device_id
    finally:
        # Unlocked by name, since a forked child that lives on would keep a lock that is only closed.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _acquire(device_ids: Sequence[str]) -> tuple[str, int]:
    """The first device whose lock can be had, and its file, open and locked."""
    told_s = -MESSAGE_INTERVAL_S
    while True:
        for device_id in device_ids:
            handle, holder = _try_lock(LOCK_FOLDER / f"firsttoken-{re.sub(r'[^A-Za-z0-9-]', '_', device_id)}.lock")
            if handle is not None:
                return device_id, handle
        if time.monotonic() - told_s >= MESSAGE_INTERVAL_S:
            told_s = time.monotonic()
            LOG.info("waiting for %s, held by %s", device_id, holder)
        time.sleep(POLL_S)


def _try_lock(path: Path) -> tuple[int | None, str]:
    """The lock file, open and locked; or None and who holds it."""
    while True:
        handle = _open_shared(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_named(handle, path):
                return handle, ""
        except BlockingIOError:
            holder = os.pread(handle, 500, 0).decode(errors="replace") or "another process"
            os.close(handle)
            return None, holder
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # somebody cleaned the folder between our open and our lock


def _open_shared(path: Path) -> int:
    """Open the lock file, made readable and writable for all if it is new.

    First without O_CREAT: in a sticky folder the kernel refuses it for a file of another user (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(3):
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RuntimeError(f"{path}: cannot lock the device: {error.strerror}; remove the file") from error
        try:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # another was faster
        except OSError as error:
            raise RuntimeError(f"{path}: cannot make the device's lock: {error.strerror}") from error
        os.fchmod(handle, 0o666)  # whatever the umask is
        return handle
    raise RuntimeError(f"{path}: the device's lock appears and vanishes; see what removes it")


def _is_still_named(handle: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(handle))
