"""The one thread that captures: alive as long as the engine, so that library handles and their workspaces stay the
same."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

R = TypeVar("R")

# A capture runs Python code beside the engine's. At Python's default switch interval of 5 ms a decode step can wait
# that long for the interpreter lock; at 50 us it waited 0.3 ms (measured on a CPU).
SWITCH_INTERVAL_S = 5e-5


class CaptureWorker:
    """Runs jobs one after another: at once when asked to wait for them, else preferably while the engine is idle."""

    def __init__(self, patience_s: float = 0.5) -> None:
        """`patience_s`: how long a background job waits for the engine to be idle before it runs beside it."""
        self._patience_s = patience_s
        self._idle = threading.Event()
        self._idle.set()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="capture")
        self._background: set[Future[Any]] = set()

    def run(self, job: Callable[[], R]) -> R:
        """Run `job` on the capture thread and return what it returns or raise what it raises."""
        return self._executor.submit(self._at_short_interval, job).result()

    def later(self, job: Callable[[], object]) -> None:
        """Run `job` in the background."""
        self._background.add(self._executor.submit(self._when_idle, job))

    def engine_busy(self) -> None:
        """The engine starts a request."""
        self._idle.clear()

    def engine_idle(self) -> None:
        """The engine has finished a request."""
        self._idle.set()

    def drain(self, timeout_s: float) -> bool:
        """Wait for the background jobs; False when `timeout_s` passed first. Raises what a job raised."""
        done, waiting = wait(self._background, timeout_s)
        self._background = waiting
        for future in done:
            future.result()
        return not waiting

    def close(self) -> None:
        """Let the running job end, drop the others, end the thread; idempotent."""
        self._idle.set()
        self._executor.shutdown(cancel_futures=True)

    def _when_idle(self, job: Callable[[], object]) -> None:
        self._idle.wait(self._patience_s)
        try:
            self._at_short_interval(job)
        except BaseException as error:
            # As if it had ended the thread, which the pool prevents: nobody may ever ask the future.
            threading.excepthook(
                threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
            )
            raise

    @staticmethod
    def _at_short_interval(job: Callable[[], R]) -> R:
        before_s = sys.getswitchinterval()
        sys.setswitchinterval(min(before_s, SWITCH_INTERVAL_S))
        try:
            return job()
        finally:
            sys.setswitchinterval(before_s)
