"""A generator in this process, with an engine that steps when the test says so."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from firsttoken.engine.base import never
from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming
from firsttoken.server import protocol
from firsttoken.server.connection import Job
from firsttoken.server.server import Generator

PATIENCE_S = 20.0  # how long a test waits for what must happen


class SteppedEngine:
    """Each token costs one permit; tokens count up over all requests, so that a repeated or lost one shows."""

    def __init__(self) -> None:
        self.setup = SetupTimes(load_s=1.5)
        self.permits = threading.Semaphore(0)
        self.free = threading.Event()  # set: no permit needed
        self.token = 0
        self.prompts: list[int] = []
        self.closed = False

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        emit: Callable[[int], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.prompts.append(prompt_ids[0])
        for _ in range(max_new_tokens):
            while not self.free.is_set() and not self.permits.acquire(timeout=0.001):
                if cancelled():
                    return
            if cancelled():
                return
            emit(self.token + 1)
            self.token += 1

    def timings(self) -> Sequence[TokenTiming]:
        return ()

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        return False

    def memory(self) -> MemoryReport:
        return MemoryReport()

    def counters(self) -> dict[str, float]:
        return {"requests": float(len(self.prompts))}

    def facts(self) -> Facts:
        return Facts()

    def capturing(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class Peer:
    """A client that is nothing but a socket and a list of what it read."""

    def __init__(self, address: Path) -> None:
        self.socket = protocol.connect(address)
        self.socket.settimeout(PATIENCE_S)
        self.inbox: protocol.Inbox[Any] = protocol.Inbox(self.socket, protocol.Decoder(protocol.GeneratorMessage))
        self.seen: list[protocol.GeneratorMessage] = []

    def send(self, message: protocol.Message) -> None:
        self.socket.send(protocol.encode(message))

    def read_until(self, *kinds: type[protocol.Message]) -> Any:
        while True:
            message = self.inbox.receive()
            self.seen.append(message)
            if isinstance(message, kinds):
                return message

    def tokens(self, request: int) -> list[int]:
        return [m.token for m in self.seen if isinstance(m, protocol.Token) and m.request == request]


class Served:
    """A running generator, and the order in which its queue took requests."""

    def __init__(self, address: Path, engine: SteppedEngine) -> None:
        self.address = address
        self.engine = engine
        self.queued: list[Job] = []
        self.enqueued = threading.Semaphore(0)
        self.generator = Generator(protocol.listen(address), lambda: engine, spin_us=0)
        self.generator._waiting = _LoggedQueue(self)
        self.thread = threading.Thread(target=self.generator.serve)
        self.thread.start()

    def ask(self, peer: Peer, message: protocol.Message) -> None:
        """Send a request and wait until it is in the queue, so that the order of two clients' requests is known."""
        peer.send(message)
        assert self.enqueued.acquire(timeout=PATIENCE_S)


class _LoggedQueue(deque[Job]):
    def __init__(self, served: Served) -> None:
        super().__init__()
        self._served = served

    def append(self, job: Job) -> None:
        super().append(job)
        self._served.queued.append(job)
        self._served.enqueued.release()


@contextlib.contextmanager
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        running = Served(Path(folder) / "s", SteppedEngine())
        try:
            yield running
        finally:
            running.generator.stop()
            running.thread.join(PATIENCE_S)
            assert not running.thread.is_alive()
            assert running.engine.closed
