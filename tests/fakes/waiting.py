"""Waiting in tests for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil


def wait_for(condition: Callable[[], bool], patience_s: float = 30.0) -> None:
    """Until it holds; fails when that takes too long."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, "still not so"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Ended; a zombie whose parent has not looked yet counts."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
