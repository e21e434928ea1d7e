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
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from firsttoken.hardware import check_gpu, driver_versions, require_gpu, visible_gpu
from firsttoken.plan import Device
from firsttoken.results import Availability, Environment

# What the measured processes run on, beside what an approach names.
MEASURED_PACKAGES = (
    "torch", "triton", "transformers", "tokenizers", "safetensors", "numpy", "msgspec",
)  # fmt: skip
# Every package whose version can change a measured number or a result; a new seaborn reruns no benchmark.
PACKAGES = (*MEASURED_PACKAGES, "huggingface_hub", "nvidia-ml-py", "pandas", "scipy", "pyarrow", "seaborn", "snakemake")


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
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine_facts(device: Device, gpu_name: str, deployment: Sequence[str]) -> dict[str, Any]:
    """The machine's part of the fingerprint, as plain values. `gpu_name` from the config wins, since a login node has
    no GPU."""
    gpu = visible_gpu() if device == "cuda" and not gpu_name else None
    return {
        "device": device,
        "gpu": gpu_name or (gpu.name if gpu else ""),
        "driver": driver_versions()[0] if gpu else "",
        "cpu": cpu_name() if device == "cpu" else "",  # beside a GPU the host's name differs from node to node
        "deployment": sorted(deployment),
    }


def fingerprint(machine: Mapping[str, Any], software: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of each part; approaches of other environments share the first."""
    parts = (json.dumps(facts, sort_keys=True).encode() for facts in (machine, software))
    return "-".join(hashlib.sha256(part).hexdigest()[:12] for part in parts)


def git_state(folder: Path) -> tuple[str, bool]:
    """The commit and whether tracked files differ from it; ("unknown", False) outside a checkout and where git refuses
    to read it, e.g. another user's."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # --exclude: no name of a tag
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False
    return found.removesuffix("-dirty"), found.endswith("-dirty")


def record_environment(
    machine: Mapping[str, Any],
    software: Mapping[str, Mapping[str, Any]],
    approaches: Mapping[str, Availability],
    threads: int,
    folder: Path,
    expected_gpu: str,
) -> Environment:
    """The machine as it is when the job runs; `software` by environment. Raises RuntimeError where it is not the
    machine that the config promised."""
    device: Device = machine["device"]
    gpu = require_gpu() if device == "cuda" else None
    driver, cuda = driver_versions() if gpu else ("", "")
    check_gpu(expected_gpu, gpu.name if gpu else "")
    commit, dirty = git_state(folder)
    return Environment(
        fingerprint=fingerprint(machine, software["base"]),
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
        environments={
            name: {"python": facts["python"], **facts["packages"]} for name, facts in software.items() if name != "base"
        },
        deployment=", ".join(machine["deployment"]) or "none (the environment that runs Snakemake)",
        approaches=dict(approaches),
        git_commit=commit,
        git_dirty=dirty,
        recorded_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
