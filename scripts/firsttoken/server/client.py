"""The client's side of a generator process: no torch, no thread on the hot path, no hang when the generator dies."""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from firsttoken.engine.base import EngineSpec
from firsttoken.plan import Unsupported
from firsttoken.private_folder import PrivateFolder
from firsttoken.process import OwnedProcess
from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming
from firsttoken.server import protocol
from firsttoken.server.spin import poll_for
from firsttoken.transient import Transient

# -P: nothing from the working directory
GENERATOR_COMMAND = (sys.executable, "-P", "-m", "firsttoken.server.server")

# The generator sends a heartbeat a second while a client waits; a library that keeps the interpreter lock may hold it
# up, above all while it loads.
SILENCE_S = 60.0
LOAD_SILENCE_S = 600.0

Reply = TypeVar("Reply", protocol.Saved, protocol.Inspection)


class GeneratorError(RuntimeError):
    """The engine failed; the message is one line."""


class GeneratorDied(Transient):
    """The generator process ended or fell silent; the message says how, and what it said last."""


class GeneratorCrashed(GeneratorError):
    """The same by a fault of its own, so that it would again."""


def _raised(failure: protocol.Refused | protocol.RequestFailed) -> Exception:
    """What a client raises for a failure that the generator tells."""
    kinds = {"unsupported": Unsupported, "invalid": ValueError, "transient": Transient, "engine": GeneratorError}
    return kinds[failure.kind](failure.reason)


class GeneratorClient:
    """One connection, one request at a time, from one thread."""

    def __init__(
        self, connection: socket.socket, process: OwnedProcess | None = None, silence_s: float = SILENCE_S
    ) -> None:
        self._socket = connection
        self._process = process
        self._silence_s = silence_s
        self._limit_s = 0.0  # of silence, as the socket has it now
        self._limit_silence(max(LOAD_SILENCE_S, silence_s))
        decoder = protocol.Decoder[protocol.GeneratorMessage](protocol.GeneratorMessage)
        self._inbox = protocol.Inbox(connection, decoder)
        self._spin_us = 0  # until the generator says otherwise
        self._arrivals = select.epoll()
        self._arrivals.register(connection, select.EPOLLIN)
        self._request = 0
        self._dead = ""
        self._received_ns: list[int] = []  # of the last request's tokens, on this side
        self._sent_ns = 0
        self._timings: list[protocol.Timings] = []
        self._done: protocol.Done | None = None

    @classmethod
    def launch(cls, spec: EngineSpec, command: Sequence[str] = GENERATOR_COMMAND, silence_s: float = SILENCE_S) -> Self:
        """Start a generator process that ends with this one. `close` ends it."""
        folder = PrivateFolder("socket")
        with protocol.listen(folder.path / "socket") as listener:
            process = OwnedProcess(command, spec, folder, listener)
            try:
                # It waits in the listener's queue until the generator accepts it.
                return cls(protocol.connect(process.address), process, silence_s)
            except BaseException:
                process.close()
                raise

    @classmethod
    def attach(cls, address: Path, silence_s: float = SILENCE_S) -> Self:
        """Connect to a running generator that another process (or this one) owns."""
        return cls(protocol.connect(address), None, silence_s)

    @property
    def address(self) -> Path:
        """Where others can attach to the generator that this client owns."""
        assert self._process is not None
        return self._process.address

    @property
    def pid(self) -> int | None:
        """Of the generator that this client owns."""
        return self._process.pid if self._process else None

    def wait_until_ready(self) -> SetupTimes:
        """Block until the engine is warm. Raises as `generate`, or Unsupported."""
        message = self._receive()
        if isinstance(message, protocol.Ready):
            self._limit_silence(self._silence_s)
            self._spin_us = message.spin_us
            return message.setup
        if isinstance(message, protocol.Refused):
            raise _raised(message)
        raise GeneratorError(f"unexpected first message: {type(message).__name__}")

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, push: Callable[[int], None]) -> None:
        """Call `push(token)` as each token arrives.

        Raises ValueError for a request that the engine cannot serve, GeneratorError or Transient when it fails,
        GeneratorDied or GeneratorCrashed when it is gone. An exception from `push` cancels the request and leaves the
        client usable.
        """
        self._sent_ns = time.perf_counter_ns()
        number = self._request = self._request + 1
        self._done = None
        self._timings = []
        arrivals = self._received_ns = []
        self._send(protocol.Generate(number, list(prompt_ids), max_new_tokens))
        receive, now, token_message = self._receive, time.perf_counter_ns, protocol.Token
        try:
            while True:
                message = receive()
                if type(message) is token_message:
                    if message.request == number:
                        arrivals.append(now())
                        push(message.token)
                elif self._ends(message, number):
                    return
        except BaseException:
            with suppress(OSError):  # the generator may be gone
                self._socket.send(protocol.encode(protocol.Cancel(number)))
            raise

    def _ends(self, message: protocol.GeneratorMessage, number: int) -> bool:
        """Take in a message that is no token; True when it ends request `number`. Skips leftovers of earlier ones."""
        if isinstance(message, protocol.Refused):
            raise self._died(message.reason)
        if isinstance(message, protocol.Heartbeat | protocol.Ready) or message.request != number:
            return False
        if isinstance(message, protocol.RequestFailed):
            raise _raised(message)
        if isinstance(message, protocol.Timings):
            self._timings.append(message)
            return False
        if isinstance(message, protocol.Done):
            self._done = message
        return True

    def timings(self) -> list[TokenTiming]:
        """How the latency of each token of the last request splits; a row a token."""
        if self._done is None:
            return []
        pushed_ns = [stamp for part in self._timings for stamp in part.pushed_ns]
        rows = [row for part in self._timings for row in part.rows] or [TokenTiming()] * len(pushed_ns)
        request_ns = self._done.received_ns - self._sent_ns
        queue_ns = self._done.started_ns - self._done.received_ns
        return [
            msgspec.structs.replace(
                row,
                ipc_ns=arrived - pushed + (request_ns if index == 0 else 0),
                queue_ns=queue_ns if index == 0 else 0,
            )
            for index, (row, pushed, arrived) in enumerate(zip(rows, pushed_ns, self._received_ns, strict=True))
        ]

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        """As `Approach.save_logits`; the generator writes the file."""
        self._request += 1
        request = protocol.SaveLogits(self._request, list(prompt_ids), list(continuation_ids), str(path.absolute()))
        return self._ask(request, protocol.Saved).offered

    def memory(self) -> MemoryReport:
        """As `Approach.memory`."""
        return self._inspect().memory

    def counters(self) -> dict[str, float]:
        """As `Approach.counters`, with the CPU seconds of both processes since their start."""
        return {**self._inspect().counters, "client_cpu_s": time.process_time()}

    def facts(self) -> Facts:
        """As `Approach.facts`."""
        return msgspec.structs.replace(self._inspect().facts, spin_us=self._spin_us)

    def _inspect(self) -> protocol.Inspection:
        self._request += 1
        return self._ask(protocol.Inspect(self._request), protocol.Inspection)

    def close(self) -> None:
        """Close the connection, and end the generator if it is ours. Idempotent."""
        self._dead = self._dead or "the client is closed"
        self._arrivals.close()
        self._socket.close()
        if self._process is not None:
            self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ plumbing

    def _ask(self, request: protocol.SaveLogits | protocol.Inspect, kind: type[Reply]) -> Reply:
        self._send(request)
        while not self._ends(reply := self._receive(), request.request):
            pass
        assert isinstance(reply, kind)
        return reply

    def _receive(self) -> protocol.GeneratorMessage:
        try:
            while True:
                if self._spin_us:
                    poll_for(self._arrivals.poll, self._spin_us)
                if type(message := self._inbox.receive()) is not protocol.Heartbeat:
                    return message
        except BlockingIOError:
            raise self._died(self._silent()) from None
        except protocol.Disconnected as error:
            raise self._died(self._exit_reason(error)) from None
        except protocol.WireError as error:
            raise self._died(f"generator sent a malformed message: {error}") from error

    def _send(self, message: protocol.Message) -> None:
        if self._dead:
            raise GeneratorDied(self._dead)
        try:
            data = protocol.encode(message)
        except protocol.WireError as error:
            raise ValueError(f"request too long for the socket: {error}") from error
        try:
            self._socket.send(data)
        except OSError:
            while True:  # what the generator said before it closed the connection, or how it ended
                self._ends(self._receive(), self._request)

    def _exit_reason(self, error: Exception) -> str:
        if self._process is None:
            return f"the generator ended or closed this connection ({error})"
        return self._process.exit_reason()

    def _silent(self) -> str:
        if self._process is None:
            return f"the generator has been silent for {self._limit_s:g} s"
        state = self._process.state()
        self._process.kill()
        return f"generator process {self._process.pid} was silent for {self._limit_s:g} s in state {state}: killed"

    def _died(self, reason: str) -> GeneratorDied | GeneratorCrashed:
        self._dead = reason
        crashed = self._process is not None and self._process.crashed
        return GeneratorCrashed(reason) if crashed else GeneratorDied(reason)

    def _limit_silence(self, seconds: float) -> None:
        """The kernel's own receive limit: unlike Python's timeout it costs no extra system call a message."""
        self._limit_s = seconds
        whole = int(seconds)
        limit = struct.pack("@ll", whole, int((seconds - whole) * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
