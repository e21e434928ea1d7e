"""A process ends with the one that it works for, also when that one is killed without a word."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
import time

import psutil

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
GRACE_S = 20  # from being asked to end to ending at once


def signal_on_parent_death(number: int) -> None:
    """Let the kernel send this process `number` when its parent ends. For `preexec_fn`: the child calls it before it
    starts."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def end_with(ancestor: psutil.Process) -> None:
    """Send ourselves SIGTERM when `ancestor` ends, and end at once if that does not help.

    The parent of a rule's script is a shell, which outlives a killed Snakemake: so it is the ancestor that is watched,
    by a thread that sleeps in the kernel until then and costs nothing.
    """
    watched = os.pidfd_open(ancestor.pid)

    def wait() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def snakemake_above() -> psutil.Process | None:
    """The nearest ancestor that runs Snakemake; None where there is none (a notebook, a test)."""
    for process in psutil.Process().parents():
        try:
            if any("snakemake" in word for word in process.cmdline()[:4]):
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None
