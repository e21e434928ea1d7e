"""The sending end of each connection: a token goes out at once, and a client that does not read stalls nobody.

The thread that has the token sends it itself, without blocking: handed to a sender thread first, a token arrives 23 us
later (median, 2 cores, `benchmarks/ipc.py`). Only what the socket does not take is left to the sender thread.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from firsttoken.server import protocol

HEARTBEAT_S = 1.0
BACKLOG_MESSAGES = 65_536  # a client that is further behind is disconnected

_NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class SendQueue:
    """What one client still has to get, in order. `put` never blocks and may be called from any thread."""

    def __init__(self, connection: socket.socket, stalled: Callable[[SendQueue], None]) -> None:
        self._socket = connection
        self._stalled = stalled
        self._lock = threading.Lock()
        self._backlog: deque[bytes] = deque()
        self._closed = False

    def put(self, message: bytes) -> None:
        """Send now, or keep for the sender thread. Messages to a client that is gone vanish."""
        with self._lock:
            if self._closed:
                return
            if not self._backlog and self._sent(message):
                return
            if len(self._backlog) >= BACKLOG_MESSAGES:
                self._give_up()
                return
            self._backlog.append(message)
        self._stalled(self)

    def flush(self) -> bool:
        """Send what the socket takes; True when nothing is left."""
        with self._lock:
            while self._backlog and not self._closed and self._sent(self._backlog[0]):
                self._backlog.popleft()
            return not self._backlog or self._closed

    def beat(self, heartbeat: bytes) -> None:
        """A heartbeat, unless the client has not even read what came before."""
        with self._lock:
            if not self._closed and not self._backlog:
                self._sent(heartbeat)

    def close(self) -> None:
        """Close the connection; idempotent."""
        with self._lock:
            self._closed = True
            self._backlog.clear()
            self._socket.close()

    def fileno(self) -> int:
        """For poll; -1 once closed."""
        return self._socket.fileno()

    def _sent(self, message: bytes) -> bool:
        try:
            self._socket.send(message, _NOW)
        except BlockingIOError:
            return False
        except OSError:  # the client is gone: its reader thread sees the same and cancels what it had asked for
            self._give_up()
        return True

    def _give_up(self) -> None:
        self._closed = True
        self._backlog.clear()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader thread, which ends the connection
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):  # those two: already gone
                raise


class Sender:
    """The sender thread's work: backlogs of slow clients, heartbeats for waiting ones."""

    def __init__(self, waiting: Callable[[], Iterable[SendQueue]]) -> None:
        self._waiting = waiting
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake_lock = threading.Lock()
        self._slow: set[SendQueue] = set()
        self._stopping = False

    def stalled(self, send_queue: SendQueue) -> None:
        """Take over what this send_queue could not send; from any thread."""
        self._slow.add(send_queue)
        self._wake_up()

    def stop(self) -> None:
        """End `run` soon; from any thread, idempotent."""
        self._stopping = True
        self._wake_up()

    def close(self) -> None:
        """After `run` has returned."""
        with self._wake_lock:
            os.close(self._wake)
            self._wake = -1

    def _wake_up(self) -> None:
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Until `stop`: sleep until a backlog appears, a slow client reads, or a heartbeat is due."""
        heartbeat = protocol.encode(protocol.Heartbeat())
        due_s = time.monotonic() + HEARTBEAT_S
        while not self._stopping:
            self._sleep(due_s - time.monotonic())
            for send_queue in self._slow.copy():
                self._slow.discard(send_queue)  # before the flush: a put that stalls again after it adds it again
                if not send_queue.flush():
                    self._slow.add(send_queue)
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + HEARTBEAT_S
                for send_queue in self._waiting():
                    send_queue.beat(heartbeat)

    def _sleep(self, timeout_s: float) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for send_queue in self._slow.copy():
            descriptor = send_queue.fileno()
            if descriptor >= 0:
                poll.register(descriptor, select.POLLOUT)
        for descriptor, _ in poll.poll(max(0.0, timeout_s) * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
