"""The one thread that captures: kept alive for the whole process, so that library handles and their workspaces stay the
same."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

R = TypeVar("R")

# A capture runs Python code beside the engine's. At Python's default switch interval of 5 ms a decode step can wait
# that long for the interpreter lock; at 50 us it waited 0.3 ms (measured on a CPU).
SWITCH_INTERVAL_S = 5e-5


class CaptureWorker:
    """Runs jobs one after another: at once when asked to wait for them, else preferably while the engine is idle."""

    def __init__(self, patience_s: float = 0.5) -> None:
        """`patience_s`: how long a background job waits for the engine to be idle before it runs beside it."""
        self._jobs: queue.Queue[tuple[Callable[[], object], Future[Any] | None] | None] = queue.Queue()
        self._patience_s = patience_s
        self._idle = threading.Event()
        self._idle.set()
        self._pending = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], R]) -> R:
        """Run `job` on the capture thread and return what it returns or raise what it raises."""
        future: Future[R] = Future()
        self._put((job, future))
        return future.result()

    def later(self, job: Callable[[], object]) -> None:
        """Run `job` in the background; it handles its own failures."""
        self._put((job, None))

    def engine_busy(self) -> None:
        """The engine starts a request."""
        self._idle.clear()

    def engine_idle(self) -> None:
        """The engine has finished a request."""
        self._idle.set()

    def drain(self, timeout_s: float) -> bool:
        """Wait until no job is left; False when `timeout_s` passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending == 0, timeout_s)

    def close(self) -> None:
        """Let the running job end, drop the others, end the thread; idempotent."""
        while not self._jobs.empty():
            try:
                dropped = self._jobs.get_nowait()
            except queue.Empty:
                break
            if dropped is not None:
                if dropped[1] is not None:
                    dropped[1].cancel()
                self._one_less()
        self._idle.set()
        self._jobs.put(None)
        self._thread.join()

    def _put(self, item: tuple[Callable[[], object], Future[Any] | None]) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("the capture thread has ended")
        with self._changed:
            self._pending += 1
        self._jobs.put(item)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            if future is None:
                self._idle.wait(self._patience_s)
            before_s = sys.getswitchinterval()
            sys.setswitchinterval(min(before_s, SWITCH_INTERVAL_S))
            try:
                result = job()
            except BaseException as error:
                if future is None:
                    raise
                future.set_exception(error)
            else:
                if future is not None:
                    future.set_result(result)
            finally:
                sys.setswitchinterval(before_s)
                self._one_less()

    def _one_less(self) -> None:
        with self._changed:
            self._pending -= 1
            self._changed.notify_all()
