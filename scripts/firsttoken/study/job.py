"""What every rule's script does around its work: log to file and terminal, end cleanly on a signal, leave a trace."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from firsttoken.process import end_with, snakemake_above
from firsttoken.study.trace import write_trace

LOGGER = logging.getLogger("firsttoken")
# What Snakemake puts into the script that it runs; scripts import it from here, so that it can be type-checked.
snakemake: Any = getattr(sys.modules["__main__"], "snakemake", None)


@contextmanager
def job(snakemake: Any) -> Iterator[logging.Logger]:
    """Run a rule's work. `snakemake` is the object that Snakemake hands to a script.

    ValueError, RuntimeError and OSError are meant for the user: they end the job with one line on the terminal, and
    the log holds the traceback. SIGTERM becomes SystemExit, so that processes and temporary files are cleaned up. On
    success the job's trace is written beside its log.
    """
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(log, mode="w", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("%(message)s"))
    to_terminal.addFilter(lambda record: not getattr(record, "file_only", False))
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    LOGGER.handlers = [to_file, to_terminal]
    # The order in which NVML counts the GPUs; by default CUDA sorts them by speed. Telemetry must watch the GPU that
    # computes.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    signal.signal(signal.SIGTERM, _exit_on_signal)
    if (above := snakemake_above()) is not None:
        end_with(above)
    started = time.time()
    try:
        yield LOGGER
        write_trace(snakemake, log.with_suffix(".trace.json"), started)
    except (ValueError, RuntimeError, OSError) as error:
        LOGGER.exception("failed", extra={"file_only": True})
        LOGGER.error("firsttoken: %s", error)
        sys.exit(1)
    except Exception:
        LOGGER.exception("failed")
        raise
    finally:
        to_file.close()


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def require_gpu_slot(snakemake: Any) -> None:
    """Raise RuntimeError where a measuring job was not given its slot: Snakemake clamps `--resources gpu=0`
    silently."""
    gpu = snakemake.resources.get("gpu")
    if not isinstance(gpu, int) or gpu < 1:
        raise RuntimeError(
            f"rule {snakemake.rule} measures and was given gpu={gpu}; it needs the resource gpu=1, which lets one "
            "measuring job run at a time (on a CPU, too): run snakemake with --resources gpu=1"
        )
