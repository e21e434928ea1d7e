"""vLLM's engine core in a process of its own: it ends with its client, and its death ends the client's wait.

vLLM 0.24.0 does neither where a process is killed. An engine core whose client is gone waits for requests. A client
whose engine core is gone waits in `SyncMPClient.get_output`: the thread that reads the socket ends without a word to
its queue.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from firsttoken.process import signal_on_parent_death, start_thread
from firsttoken.transient import CRASHES


class CoreWatch:
    """Waits for the end of the engine core in a thread that sleeps in the kernel; `client` is vLLM's `SyncMPClient`."""

    def __init__(self, client: Any) -> None:
        (self._process,) = client.resources.engine_manager.processes
        self._queue = client.outputs_queue
        self._dead = threading.Event()
        self._stopped, self._stop = Pipe(duplex=False)
        start_thread("ft-core-watch", self._look)

    def _look(self) -> None:
        if self._stopped in wait([self._process.sentinel, self._stopped]):
            return
        self._dead.set()
        self._queue.put_nowait(RuntimeError(self._message))

    @property
    def _message(self) -> str:
        return f"vLLM's engine core process {self._process.pid} ended; its own messages are above"

    def death(self) -> str:
        """One line if the process is gone, else "". Waits a moment: to be called after a request has failed."""
        return self._message if self._dead.wait(0.5) else ""

    @property
    def killed(self) -> bool:
        """Whether somebody ended the process that is gone; else it did so itself, and would again."""
        code = self._process.exitcode
        return code is None or (code < 0 and -code not in CRASHES)

    def close(self) -> None:
        """End the thread; idempotent. To be called before vLLM ends the process."""
        self._stop.close()


def end_with_client() -> None:
    """In an engine core process of its own: let the kernel kill it, which has nothing to save, when its client ends."""
    client = multiprocessing.parent_process()
    if client is None:
        return
    signal_on_parent_death(signal.SIGKILL)
    if os.getppid() != client.pid:  # the client ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)
