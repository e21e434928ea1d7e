"""Is this machine ready to measure? What it has, what would disturb a measurement, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from firsttoken.hardware import driver_versions, nvml, visible_gpu, visible_handles
from firsttoken.measure.environment import cpu_name, git_state, package_versions
from firsttoken.measure.sampler import GpuReader
from firsttoken.measure.taint import reason_names
from firsttoken.preflight import Finding

COMPILERS = ("g++", "clang++", "c++")
GOVERNORS = "/sys/devices/system/cpu"
BUSY_CORES = 0.5  # of others' work, from which on a measurement is disturbed
LEAST_FREE_BYTES = 4 << 30
LEAST_TEMPORARY_BYTES = 1 << 29  # torch's precompiled headers for one process


def examine(root: Path) -> list[Finding]:
    """All lines. A check that fails is a line, too."""
    return [finding for check in CHECKS for finding in _whatever_happens(check, root)]


def versions(root: Path) -> dict[str, str]:
    """Of firsttoken, by its project file and commit, and of what it runs with."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commit, dirty = git_state(root)
    own = f"{project['version']}, commit {commit}{'+changes' if dirty else ''}"
    packages = package_versions(("torch", "transformers", "snakemake"))
    return {"firsttoken": own, "Python": platform.python_version(), **packages}


def _whatever_happens(check: Callable[[Path], Iterator[Finding]], root: Path) -> Iterator[Finding]:
    try:
        yield from check(root)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        yield Finding(check.__name__.strip("_"), "warn", f"could not be checked: {type(error).__name__}: {reason}")


def _versions(root: Path) -> Iterator[Finding]:
    yield Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in versions(root).items()))


def _gpu(_root: Path) -> Iterator[Finding]:
    gpu = visible_gpu()
    if gpu is None:
        yield Finding("GPU", "warn", "none is visible: studies run on the CPU, where CUDA graphs are only emulated")
        return
    memory = f"{gpu.memory_bytes / 2**30:.0f} GiB" if gpu.memory_bytes else "memory unknown"
    yield Finding("GPU", "ok", f"{gpu.name or 'unknown'}, {memory}, compute capability {gpu.compute_capability}")
    driver, cuda = driver_versions()
    yield Finding("driver", "ok", f"{driver or 'unknown'}, for CUDA up to {cuda or 'unknown'}")
    with nvml() as found:
        yield from _gpu_state(found, GpuReader(found, visible_handles(found)[0]))


def _gpu_state(driver: Any, reader: GpuReader) -> Iterator[Finding]:
    """What limits or disturbs the GPU; what its driver does not tell gives no line."""
    reading = reader.read(set())
    if others := reading.processes:
        pids = ", ".join(str(process.pid) for process in others)
        yield Finding("GPU processes", "warn", f"others compute on it (process {pids}): end them before measuring")
    elif others is not None:
        yield Finding("GPU processes", "ok", "none")
    persistence = reader.ask("nvmlDeviceGetPersistenceMode")
    if persistence is not None:
        advice = "on" if persistence else "off, so that each process waits for the driver: sudo nvidia-smi -pm 1"
        yield Finding("persistence", "ok" if persistence else "warn", advice)
    highest, set_mhz = reader.ask("nvmlDeviceGetMaxClockInfo", driver.NVML_CLOCK_SM), reader.reference_clock_mhz()
    if highest and set_mhz:
        limited = set_mhz < highest
        advice = ": sudo nvidia-smi -rac takes the limit off" if limited else "; the driver does not tell locked clocks"
        detail = f"application clock {set_mhz:.0f} of {highest} MHz{advice}"
        yield Finding("GPU clocks", "warn" if limited else "ok", detail)
    limit = reader.ask("nvmlDeviceGetEnforcedPowerLimit")
    default = reader.ask("nvmlDeviceGetPowerManagementDefaultLimit")
    if limit and default:
        lowered = limit < default
        advice = f": sudo nvidia-smi -pl {default // 1000}" if lowered else ""
        detail = f"limit {limit / 1e3:.0f} of usually {default / 1e3:.0f} W{advice}"
        yield Finding("GPU power", "warn" if lowered else "ok", detail)
    if slowed := [name for name in reason_names(reading.reasons or 0) if "slowdown" in name or "brake" in name]:
        yield Finding("GPU throttled", "warn", f"{', '.join(slowed)}: see to its cooling and power")


def _torch(_root: Path) -> Iterator[Finding]:
    import torch

    build = f"{torch.__version__}, {f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'for CPUs'}"
    if visible_gpu() is None:
        yield Finding("torch", "ok", build)
    elif not torch.version.cuda:
        yield Finding("torch", "no", f"{build}, but there is a GPU: install requirements-torch-cuda.lock into .venv")
    elif not torch.cuda.is_available():
        yield Finding("torch", "no", f"{build}, and sees no GPU: the driver may be too old for it")
    else:
        yield Finding("torch", "ok", f"{build}, sees {torch.cuda.get_device_name()}")


def _compiler(_root: Path) -> Iterator[Finding]:
    asked = os.environ.get("CXX", "")
    path = next(filter(None, map(shutil.which, filter(None, (asked, *COMPILERS)))), None)
    if path is None:
        yield Finding("compiler", "no", "no C++ compiler on PATH: torch.compile needs one: apt-get install g++")
        return
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20).stdout.splitlines()
    unknown = "" if not asked or shutil.which(asked) == path else f", CXX={asked} is no program"
    yield Finding("compiler", "warn" if unknown else "ok", f"{path}: {said[0] if said else 'no version'}{unknown}")


def _cpu(_root: Path) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    yield Finding("CPU", "ok", f"{cpu_name()}, {cores} cores for us")
    busy = psutil.cpu_percent(interval=1.0) / 100 * (psutil.cpu_count() or cores)
    advice = ": end what runs beside" if busy > BUSY_CORES else ""
    detail = f"{busy:.1f} cores busy now, load {os.getloadavg()[0]:.1f}{advice}"
    yield Finding("idle", "warn" if advice else "ok", detail)
    found = {path.read_text().strip() for path in Path(GOVERNORS).glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if slow := found - {"performance"}:
        advice = f"{', '.join(sorted(slow))}: clocks rise late: sudo cpupower frequency-set -g performance"
        yield Finding("CPU governor", "warn", advice)
    else:
        yield Finding("CPU governor", "ok", ", ".join(found) or "the kernel does not tell, as in virtual machines")


def _room(root: Path) -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield _free("memory", memory.available, memory.total, LEAST_FREE_BYTES, "end what runs beside")
    for what, folder, least in (
        ("disk", root, LEAST_FREE_BYTES),
        (f"TMPDIR {tempfile.gettempdir()}", Path(tempfile.gettempdir()), LEAST_TEMPORARY_BYTES),
    ):
        usage = shutil.disk_usage(folder)
        yield _free(what, usage.free, usage.total, least, "make room")


def _free(what: str, free: int, total: int, least: int, advice: str) -> Finding:
    detail = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return Finding(what, "ok", detail) if free >= least else Finding(what, "warn", f"{detail}: {advice}")


def _hub(_root: Path) -> Iterator[Finding]:
    from huggingface_hub import get_token

    none = "no token: gated and private models need `hf auth login`"
    yield Finding("hub login", "ok", "a token is here" if get_token() else none)


CHECKS = (_versions, _gpu, _torch, _compiler, _cpu, _room, _hub)
