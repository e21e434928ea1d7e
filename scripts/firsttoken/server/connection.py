"""One client as the generator sees it: its socket's two ends and its unfinished requests.

The thread that has a token sends it itself, without blocking: handed to another thread first, a token arrives 23 us
later (median, 2 cores, `benchmarks/ipc.py`). What the socket does not take waits in the backlog.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections import deque
from contextlib import suppress

from firsttoken.server import protocol

MAX_WAITING_REQUESTS = 4  # of one client; ours waits for each, but one that it cancelled may still be ending
BACKLOG_BYTES = 16 * 2**20  # 65,536 tokens with their timings; a client that is further behind is disconnected
FLUSH_MESSAGES = 256  # at once, under the lock that a token to this client may wait for: less than a millisecond

_NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

Request = protocol.Generate | protocol.SaveLogits | protocol.Inspect


class Job:
    """One request: waiting, then run by the engine thread, unless it was cancelled before."""

    __slots__ = ("cancelled", "client", "received_ns", "request")

    def __init__(self, client: Client, request: Request, received_ns: int) -> None:
        self.client = client
        self.request = request
        self.received_ns = received_ns
        self.cancelled = False


class Client:
    """One connection. `put` and `flush` never block and may be called from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        protocol.set_send_buffer(connection)
        self.inbox = protocol.Inbox(connection, protocol.Decoder[protocol.ClientMessage](protocol.ClientMessage))
        self.jobs: dict[int, Job] = {}
        self.greeted = False
        self.backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._socket = connection
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        """For epoll."""
        return self._socket.fileno()

    def begin(self, request: Request, received_ns: int) -> Job:
        """A job for the queue. Raises `WireError` for a number in use, or too many requests at once."""
        if request.request in self.jobs:
            raise protocol.WireError(f"request {request.request} is already waiting")
        if len(self.jobs) >= MAX_WAITING_REQUESTS:
            raise protocol.WireError(f"more than {MAX_WAITING_REQUESTS} requests waiting")
        job = self.jobs[request.request] = Job(self, request, received_ns)
        return job

    def finish(self, job: Job, *messages: protocol.Message) -> None:
        """Send the request's last messages and forget it."""
        self.jobs.pop(job.request.request, None)
        for message in messages:
            self.put(protocol.encode(message))

    def greet(self, greeting: bytes) -> None:
        """Send the first message of the connection."""
        self.put(greeting)
        self.greeted = True

    def put(self, message: bytes) -> None:
        """Send now, or keep for `flush`. Messages to a client that is gone vanish."""
        with self._lock:
            if self._closed:
                return
            if not self.backlog and self._sent(message):
                return
            self._backlog_bytes += sys.getsizeof(message)
            if self._backlog_bytes > BACKLOG_BYTES:
                self._give_up()
            else:
                self.backlog.append(message)

    def flush(self) -> None:
        """Send of the backlog what the socket takes."""
        with self._lock:
            for _ in range(FLUSH_MESSAGES):
                if not self.backlog or not self._sent(self.backlog[0]):
                    return
                if self.backlog:  # else it turned out that the client is gone
                    self._backlog_bytes -= sys.getsizeof(self.backlog.popleft())

    def close(self) -> None:
        """Close the connection and cancel what the client asked for."""
        for job in list(self.jobs.values()):
            job.cancelled = True
        with self._lock:
            self._closed = True
            self.backlog.clear()
            self._socket.close()

    def _sent(self, message: bytes) -> bool:
        """False where the socket is full."""
        try:
            self._socket.send(message, _NOW)
        except BlockingIOError:
            return False
        except OSError:  # the client is gone: whoever reads sees the same and cancels what it had asked for
            self._give_up()
        return True

    def _give_up(self) -> None:
        self._closed = True
        self.backlog.clear()
        with suppress(OSError):  # gone already
            self._socket.shutdown(socket.SHUT_RDWR)  # whoever reads finds the end of the connection
