"""What every rule's script does around its work: log to file and terminal, end cleanly on a signal, leave a trace."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firsttoken.child_job import LOGGER, log_to
from firsttoken.process import end_with, snakemake_above
from firsttoken.study.runs import run_has_ended
from firsttoken.study.trace import write_trace

# What Snakemake puts into the script that it runs; scripts import it from here, so that it can be type-checked.
snakemake: Any = getattr(sys.modules["__main__"], "snakemake", None)


@contextmanager
def job(snakemake: Any) -> Iterator[logging.Logger]:
    """Run a rule's work, with its log and errors as in `log_to`; on success the job's trace is written beside its log.

    `snakemake` is the object that Snakemake hands to a script.
    """
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    # The order in which NVML counts the GPUs; by default CUDA sorts them by speed. Telemetry must watch the GPU that
    # computes.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if (above := snakemake_above()) is not None:
        end_with(above)
    if run_has_ended():  # while this script started, so that Snakemake is no longer above
        sys.exit("firsttoken: Snakemake has ended, so this job ends, too")
    trace, started = log.with_suffix(".trace.json"), time.time()
    with log_to(log, "w"):
        trace.unlink(missing_ok=True)  # it tells of the outputs that this job makes anew
        yield LOGGER
        write_trace(snakemake, trace, started)


def require_gpu_slot(snakemake: Any) -> None:
    """Raise RuntimeError where a measuring job was not given its slot: Snakemake clamps `--resources gpu=0`
    silently."""
    gpu = snakemake.resources.get("gpu")
    if not isinstance(gpu, int) or gpu < 1:
        raise RuntimeError(
            f"rule {snakemake.rule} measures and was given gpu={gpu}; it needs the resource gpu=1, which lets one "
            "measuring job run at a time (on a CPU, too): run snakemake with --resources gpu=1"
        )
