"""A job's work in a process of its own, in the interpreter of an environment: `PYTHON -m MODULE JOB.json`.

The rule's script holds the device and waits; the process that it starts writes the outputs, logs to the same file, and
ends with it. `PYTHON` needs this package's own requirements for what it runs and nothing of Snakemake.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from firsttoken.files import write_json
from firsttoken.private_folder import PrivateFolder
from firsttoken.process import JOB_GRACE_S, end_with, signal_on_parent_death
from firsttoken.progress import CLEAR_LINE, STATUS_WIDTH, TERMINAL_FD, terminal
from firsttoken.transient import CRASHES, Transient

LOGGER = logging.getLogger("firsttoken")
PACKAGE_ROOT = str(Path(__file__).resolve().parents[1])
ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Crashed(RuntimeError):
    """The process was ended by a fault of its own, so that it would end so again."""


@contextmanager
def log_to(log: Path, mode: str) -> Iterator[None]:
    """Log to the job's file and, without tracebacks, to the terminal: there only warnings where Snakemake has our
    logger, which reads the error from the log.

    An error ends the process with one line on the terminal, and the log holds the traceback. ValueError, RuntimeError
    and OSError are meant for the user; others are named, too. SIGTERM becomes SystemExit, so that processes and
    temporary files are cleaned up.
    """
    try:
        if mode == "w":
            log.write_text("", encoding="utf-8")
        to_file = logging.FileHandler(log, encoding="utf-8")  # appends, since a process that it starts does, too
    except OSError as error:
        sys.exit(f"firsttoken: {error}")
    # On a full disk the terminal still has the line: no traceback of the logging beside it.
    to_file.handleError = lambda record: None  # type: ignore[method-assign]
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    quiet = STATUS_WIDTH in os.environ
    if quiet:
        _print_to(log)
    to_terminal = logging.StreamHandler(terminal())
    to_terminal.setFormatter(logging.Formatter(f"{CLEAR_LINE if to_terminal.stream.isatty() else ''}%(message)s"))
    to_terminal.addFilter(lambda record: not getattr(record, "file_only", False))
    if quiet:
        to_terminal.addFilter(lambda record: record.levelno == logging.WARNING)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    LOGGER.handlers = [to_file, to_terminal]
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        yield
    except Exception as error:
        LOGGER.exception("failed", extra={"file_only": True})
        told = isinstance(error, ValueError | RuntimeError | OSError)
        LOGGER.error("firsttoken: %s (log: %s)", error if told else f"{type(error).__name__}: {str(error)[:200]}", log)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        with suppress(OSError):
            to_file.close()


def _print_to(log: Path) -> None:
    """What this process and those that it starts print goes into the log; the terminal stays open beside it."""
    if TERMINAL_FD not in os.environ:
        kept = os.dup(2)
        os.set_inheritable(kept, True)
        os.environ[TERMINAL_FD] = str(kept)
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 2)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


# ---------------------------------------------------------------- the rule's script


def find_python(environment: str, configured: str) -> str:
    """The interpreter of an environment: the config's, else that of `make env-NAME`, beside the environment that runs
    this; "" where there is none, for this script's own."""
    beside = Path(f"{sys.prefix}-{environment}") / "bin" / "python"
    return configured or (str(beside) if beside.exists() else "")


def run_module(python: str, module: str, job: msgspec.Struct) -> None:
    """Run `python -m module JOB.json` with `job` in the file and wait for its end; "" is this script's interpreter.

    What it prints goes to our stderr, since Snakemake reads the job's stdout. Raises Crashed, Transient where another
    signal ended it, and SystemExit with its status where it failed: it has said why itself.
    """
    with PrivateFolder("job") as folder:
        path = Path(folder) / "job.json"
        write_json(path, job)
        command, environment = module_command(python, module, str(path))
        # Compilers and libraries leave files behind when they are killed: here they go with the folder.
        # The kernel's signal comes also while the process still starts, when it does not yet watch this script.
        process = subprocess.Popen(
            command,
            env=environment | {"TMPDIR": folder},
            stdout=2,
            pass_fds=[int(os.environ[TERMINAL_FD])] if TERMINAL_FD in os.environ else [],
            preexec_fn=partial(signal_on_parent_death, signal.SIGTERM),
        )
        try:
            status = process.wait()
        finally:
            _end(process)
    if -status in CRASHES:
        raise Crashed(f"the process was ended by {signal.Signals(-status).name}; the log has its last output")
    if status < 0 and -status not in ASKED_TO_END:
        name = signal.Signals(-status).name
        raise Transient(f"the process was killed by {name}, by somebody or for want of memory; run again to go on")
    if status:
        sys.exit(status if status > 0 else 128 - status)


def module_command(python: str, module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command and the variables under which `python` runs a module of this package.

    This script's own interpreter ("") also finds what this script does, in the same order, since Snakemake adds paths:
    in a container, those of its own packages. -P: the working directory has folders that are named like packages.
    """
    known = sys.path if not python else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = dict.fromkeys([PACKAGE_ROOT, *filter(None, known)])
    return [python or sys.executable, "-P", "-m", module, *arguments], os.environ | {
        "PYTHONPATH": os.pathsep.join(paths)
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """After Ctrl-C, which reached the process too, or SIGTERM, which did not: let it close what it holds."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(JOB_GRACE_S)
        process.kill()
        process.wait()


# ---------------------------------------------------------------- the process that it starts


@contextmanager
def child_job(log: str) -> Iterator[None]:
    """In the started process, around its work: the script's log goes on, and the process ends with the script.

    Ctrl-C reaches it from the terminal, then SIGTERM from the script: the second must not cut off what the first began.
    """
    end_with(os.getppid())
    with log_to(Path(log), "a"):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end_once)
        yield


def _end_once(number: int, _frame: FrameType | None) -> NoReturn:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
