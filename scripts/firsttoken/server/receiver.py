"""Who reads what clients send: the engine's thread while it has nothing to run, a thread beside it while it runs.

What comes to an idle engine is read where it will be run: handed over by a reader thread, a request waited 60 us for
the engine's thread on a GPU host (queue_ns of a study), 7 us on two idle cores (`benchmarks/ipc.py`). For `WATCH_NS`
after a request it looks without sleeping, since the kernel takes tens of microseconds to wake a thread: of requests
back to back, a first token gains 25 us less so; after a longer pause it waits as long as ever. While a request runs,
a message may lie in its socket for `READ_INTERVAL_S`; with several clients that wait counts as IPC.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from firsttoken.server import protocol
from firsttoken.server.connection import Client

READ_INTERVAL_S = 0.005
WATCH_NS = 1_000_000


class Receiver:
    """All connections, and the right to read from them. Begins with the engine busy: it has yet to be made."""

    def __init__(self, handle: Callable[[Client, protocol.ClientMessage], None]) -> None:
        """`handle` takes each message; a `WireError` of it costs the client its connection."""
        self._handle = handle
        self._clients: dict[int, Client] = {}  # by the descriptor of its socket
        self._sockets = select.epoll()
        self._reading = threading.Lock()  # whoever holds it may read
        self._engine_reads = False  # changed under that lock
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._sockets.register(self._wake, select.EPOLLIN)

    def add(self, client: Client) -> None:
        """From now on it is read; from any thread."""
        descriptor = client.send_queue.fileno()
        self._clients[descriptor] = client
        self._sockets.register(descriptor, select.EPOLLIN)

    def clients(self) -> list[Client]:
        """Connected now."""
        return list(self._clients.values())

    @contextmanager
    def by_engine(self) -> Iterator[None]:
        """Within, the engine's thread alone reads, by `wait_and_read`."""
        with self._reading:
            self._engine_reads = True
        try:
            yield
        finally:
            with self._reading:
                self._engine_reads = False

    def wait_and_read(self) -> None:
        """Wait until a client sends something, or `stop`."""
        look, now = self._sockets.poll, time.perf_counter_ns
        until_ns = now() + WATCH_NS
        while not (events := look(0)) and now() < until_ns:
            os.sched_yield()  # a client may need this very core
        if not events:
            events = look()
        with self._reading:
            self._read_ready(events)

    def read_beside(self) -> None:
        """The reader thread: looks now and then, which costs the engine less than a thread that each message wakes."""
        while not self._stopping:
            time.sleep(READ_INTERVAL_S)
            with self._reading:
                while not self._engine_reads and not self._stopping and self._read_ready(self._sockets.poll(0)):
                    pass

    def stop(self) -> None:
        """Wake who waits; from any thread, idempotent."""
        self._stopping = True
        with self._reading:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)  # never read, so that it wakes whoever waits from now on

    def close(self) -> None:
        """Close all connections; when no thread reads or adds any more."""
        for client in self.clients():
            client.send_queue.close()
        with self._reading:
            self._sockets.close()
            os.close(self._wake)
            self._wake = -1

    def _read_ready(self, events: list[tuple[int, int]]) -> bool:
        """One message of each client that has sent one; whether there was any."""
        found = [self._clients.get(descriptor) for descriptor, _ in events]
        ready = [client for client in found if client is not None]
        for client in ready:
            try:
                self._handle(client, client.inbox.receive())
            except protocol.Disconnected:
                self._drop(client)  # the usual end
            except protocol.WireError as error:
                print(f"generator: connection closed: {error}", file=sys.stderr, flush=True)
                self._drop(client)
        return bool(ready)

    def _drop(self, client: Client) -> None:
        descriptor = client.send_queue.fileno()
        self._sockets.unregister(descriptor)
        del self._clients[descriptor]
        client.close()
