"""A job that uses the device: it has the GPU slot, the device's lock, and model files that are still those hashed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firsttoken.hardware import check_gpu, device_lock, require_gpus, see_only
from firsttoken.inputs.model_check import require_checked
from firsttoken.plan import Device
from firsttoken.results import Gpu
from firsttoken.study.job import job, require_gpu_slot

GPUS = "FIRSTTOKEN_GPUS"  # how many of the visible GPUs a study may use at once; the workflow sets it


@dataclass(frozen=True)
class HeldDevice:
    """The device that a job holds."""

    gpu: Gpu | None  # None: the CPU
    log: logging.Logger


@contextmanager
def device_job(snakemake: Any, device: Device) -> Iterator[HeldDevice]:
    """Run a rule's work while holding `device`: of the GPUs that the study may use, the first that is free. See
    `study.job.job`.

    Raises RuntimeError without the resource gpu=1, without a GPU for `cuda`, or with another one than the rule's param
    `expected_gpu`; ValueError where a file of the rule's `model` input has changed since `model_check` was written.
    """
    with job(snakemake) as log:
        require_gpu_slot(snakemake)
        gpus = require_gpus()[: int(os.environ.get(GPUS, "1"))] if device == "cuda" else []
        for gpu in gpus:
            check_gpu(snakemake.params.expected_gpu, gpu.name)
        with device_lock(*([gpu.uuid for gpu in gpus] or ["cpu"])) as held:
            place = next((place for place, gpu in enumerate(gpus) if gpu.uuid == held), None)
            if place is not None:
                see_only(place, gpus[place])
            if check := snakemake.input.get("model_check"):
                require_checked(Path(snakemake.input.model), Path(check))
            yield HeldDevice(gpu=None if place is None else gpus[place], log=log)
