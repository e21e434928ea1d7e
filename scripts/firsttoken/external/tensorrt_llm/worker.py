"""A watch over TensorRT-LLM's worker process, so that its death is an error and not a request that never ends.

The client waits for tokens in a queue without a time limit (`GenerationResult._result_step` in
tensorrt_llm/executor/result.py ignores its timeout), so nothing would wake it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from firsttoken.process import start_thread
from firsttoken.transient import Transient

INTERVAL_S = 0.5
WORKER_MARK = "mpi4py.futures"  # in the command line of a worker that MPIPoolExecutor spawned


class WorkerDied:
    """Put into a result's queue; TensorRT-LLM raises ValueError for a response of a type that it does not know."""


class WorkerWatch:
    """Looks after the worker processes from a thread. Without workers (one process) it does nothing."""

    def __init__(self, workers: Sequence[psutil.Process]) -> None:
        self.worker_count = len(workers)
        self.death = ""  # one line, once a worker is gone
        self._workers = workers
        self._queue: Any = None
        self._stop = threading.Event()
        if workers:
            start_thread("ft-worker-watch", self._look)

    def _look(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            gone = [worker.pid for worker in self._workers if not is_alive(worker)]
            if gone:
                self.death = f"TensorRT-LLM's worker process {gone[0]} ended; its own messages are above"
                queue = self._queue
                if queue is not None:
                    queue.put(WorkerDied())
                return

    @contextmanager
    def guard(self, result: Any) -> Iterator[None]:
        """While the block waits for `result`, a death wakes it. Raises Transient where the worker has died already.

        The queue is set before the death is read, and the thread does it the other way round: one sees the other.
        """
        self._queue = result.queue
        try:
            if self.death:
                raise Transient(self.death)
            yield
        finally:
            self._queue = None

    def close(self) -> None:
        """End the thread; idempotent."""
        self._stop.set()


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_workers() -> list[psutil.Process]:
    """The workers among this process's descendants (MPI puts a daemon between)."""
    workers = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any(WORKER_MARK in argument for argument in child.cmdline()):
                workers.append(child)
        except psutil.Error:
            continue  # it ended while we looked: not a worker that we could watch
    return workers
