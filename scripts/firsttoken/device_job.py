"""A job that uses the device: it has the GPU slot, the device's lock, and model files that are still those hashed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firsttoken.hardware import check_gpu, device_lock, require_gpu
from firsttoken.inputs.model_check import require_checked
from firsttoken.plan import Device
from firsttoken.results import Gpu
from firsttoken.study.job import job, require_gpu_slot


@dataclass(frozen=True)
class HeldDevice:
    """The device that a job holds."""

    gpu: Gpu | None  # None: the CPU
    log: logging.Logger


@contextmanager
def device_job(snakemake: Any, device: Device) -> Iterator[HeldDevice]:
    """Run a rule's work while holding `device`; see `study.job.job`.

    Raises RuntimeError without the resource gpu=1, without a GPU for `cuda`, or with another one than the rule's param
    `expected_gpu`; ValueError where a file of the rule's `model` input has changed since `model_check` was written.
    """
    with job(snakemake) as log:
        require_gpu_slot(snakemake)
        gpu = require_gpu() if device == "cuda" else None
        check_gpu(snakemake.params.expected_gpu, gpu.name if gpu else "")
        if gpu:  # the first that CUDA sees, and from here on the only one: no library may spread over others
            first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
            os.environ["CUDA_VISIBLE_DEVICES"] = first if first.isdecimal() else gpu.uuid  # it may be given in short
        with device_lock(gpu.uuid if gpu else "cpu"):
            if check := snakemake.input.get("model_check"):
                require_checked(Path(snakemake.input.model), Path(check))
            yield HeldDevice(gpu=gpu, log=log)
