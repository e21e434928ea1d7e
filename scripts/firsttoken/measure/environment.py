"""What machine this is and which approaches can run on it: `results/{study}/environment.json` and its fingerprint.

The fingerprint is a rule param, so it is taken each time the workflow is parsed: nothing here imports torch. It covers
what changes a latency (GPU model, driver, package versions, deployment), not what changes by itself (clocks, the
commit). Whether an approach can run is a param of that approach's own jobs, so that a new approach does not rerun the
others.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from firsttoken.plan import Device
from firsttoken.results import Availability, Environment, Gpu

# Every package whose version can change a measured number or a result.
PACKAGES = (
    "torch", "triton", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy", "msgspec",
    "tensorrt_llm", "tensorrt", "nvidia-ml-py", "pandas", "scipy", "pyarrow", "seaborn", "snakemake",
)  # fmt: skip
# Of those, what the measured processes themselves run on; a new seaborn reruns no benchmark.
MEASURED_PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "msgspec",
    "tensorrt_llm",
    "tensorrt",
)


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


def visible_gpu() -> tuple[Gpu | None, str, str]:
    """The first GPU that CUDA will see, the driver's version and the CUDA version it offers; (None, "", "") without
    one.

    NVML counts the GPUs by their place on the bus, and so does CUDA in our jobs (`CUDA_DEVICE_ORDER`, set by `job`).
    """
    with nvml() as driver:
        handle = None if driver is None else _first_visible(driver, os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
        if driver is None or handle is None:
            return None, "", ""
        major, minor = driver.nvmlDeviceGetCudaComputeCapability(handle)
        cuda = driver.nvmlSystemGetCudaDriverVersion()
        gpu = Gpu(
            name=_text(driver.nvmlDeviceGetName(handle)),
            uuid=_text(driver.nvmlDeviceGetUUID(handle)),
            memory_bytes=int(driver.nvmlDeviceGetMemoryInfo(handle).total),
            compute_capability=f"{major}.{minor}",
        )
        return gpu, _text(driver.nvmlSystemGetDriverVersion()), f"{cuda // 1000}.{cuda % 1000 // 10}"


def _first_visible(driver: Any, visible: str) -> Any:
    """NVML's handle for the first entry of `CUDA_VISIBLE_DEVICES`: an index, a uuid or its beginning; None hides all.

    As CUDA reads it: an entry that names no device hides itself and what comes after.
    """
    first = visible.split(",")[0].strip()
    count = driver.nvmlDeviceGetCount()
    if first.startswith("MIG-"):
        return driver.nvmlDeviceGetHandleByUUID(first)
    if first.isdecimal():
        return driver.nvmlDeviceGetHandleByIndex(int(first)) if int(first) < count else None
    handles = [driver.nvmlDeviceGetHandleByIndex(index) for index in range(count)] if first.startswith("GPU-") else []
    return next((handle for handle in handles if _text(driver.nvmlDeviceGetUUID(handle)).startswith(first)), None)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of the installed packages among `names`; absent ones are left out."""
    versions: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cpu_name() -> str:
    """The processor's name as the kernel gives it."""
    for line in (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    ):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine_facts(device: Device, gpu_name: str, deployment: Sequence[str]) -> dict[str, Any]:
    """What the fingerprint is made of, as plain values. `gpu_name` from the config wins, since a login node has no
    GPU."""
    gpu, driver, _ = visible_gpu() if device == "cuda" and not gpu_name else (None, "", "")
    return {
        "device": device,
        "gpu": gpu_name or (gpu.name if gpu else ""),
        "driver": driver,
        "cpu": cpu_name() if device == "cpu" else "",  # beside a GPU the host's name differs from node to node
        "python": platform.python_version(),
        "packages": package_versions(MEASURED_PACKAGES),
        "deployment": sorted(deployment),
    }


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the facts' SHA-256."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def git_state(folder: Path) -> tuple[str, bool]:
    """The commit and whether tracked files differ from it; ("", False) outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "", False
    return commit, bool(status)


def record_environment(
    facts: Mapping[str, Any],
    approaches: Mapping[str, Availability],
    threads: int,
    folder: Path,
    expected_gpu: str = "",
) -> Environment:
    """The machine as it is when the job runs. Raises RuntimeError where it is not the one that the config promised."""
    device: Device = facts["device"]
    gpu, driver, cuda = visible_gpu() if device == "cuda" else (None, "", "")
    if device == "cuda" and gpu is None:
        raise RuntimeError(
            "the study's device is cuda, but this job sees no CUDA device; ask the cluster for one (gpu=1)"
        )
    if expected_gpu and gpu and gpu.name != expected_gpu:
        raise RuntimeError(f"config key hardware.gpu promises {expected_gpu!r}, but this job runs on {gpu.name!r}")
    commit, dirty = git_state(folder)
    return Environment(
        fingerprint=fingerprint(facts),
        device=device,
        gpu=gpu,
        driver=driver,
        cuda=cuda,
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        threads=threads,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=platform.platform(),
        python=platform.python_version(),
        packages=package_versions(),
        deployment=", ".join(facts["deployment"]) or "none (the environment that runs Snakemake)",
        approaches=dict(approaches),
        git_commit=commit,
        git_dirty=dirty,
        recorded_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
