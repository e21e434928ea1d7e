"""One client as the generator sees it: its socket's two ends and its unfinished requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from firsttoken.server import protocol
from firsttoken.server.sender import SendQueue

MAX_WAITING_REQUESTS = 64  # of one client

Request = protocol.Generate | protocol.SaveLogits | protocol.Inspect


class Job:
    """One request: waiting, then claimed once, by the engine thread to run it or by a reader thread to cancel it."""

    __slots__ = ("_claim", "cancelled", "client", "received_ns", "request")

    def __init__(self, client: Client, request: Request, received_ns: int) -> None:
        self.client = client
        self.request = request
        self.received_ns = received_ns
        self.cancelled = False
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """True for the first caller only."""
        return self._claim.acquire(blocking=False)


class Client:
    """One connection: its reader's inbox, its send_queue, and its requests that are not finished."""

    def __init__(self, connection: socket.socket, stalled: Callable[[SendQueue], None]) -> None:
        protocol.set_send_buffer(connection)
        self.inbox = protocol.Inbox(connection, protocol.client_message_decoder())
        self.send_queue = SendQueue(connection, stalled)
        self.jobs: dict[int, Job] = {}
        self.greeted = False

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
            self.send_queue.put(protocol.encode(message))

    def close(self) -> None:
        """The client is gone: cancel what it asked for and close the connection."""
        for job in list(self.jobs.values()):
            job.cancelled = True
            job.claim()  # the engine thread skips it, if it has not begun
        self.send_queue.close()
