"""The generator process: `python -m firsttoken.server.server`, started by `client.GeneratorClient.launch`.

    ft-engine    main thread: makes the engine, reads requests while it has none to run, runs them one after another,
                 sends tokens without blocking
    ft-reader    reads what clients say while a request runs: cancellations, further requests, ends of connections
    ft-sender    sends what a slow client's socket did not take at once; heartbeats
    ft-acceptor  accepts clients
    ft-lifetime  ends the process with its owner (see `process`)

An engine may have threads of its own, such as the one that captures graphs. Requests of all clients wait in one FIFO
queue.
"""

from __future__ import annotations

import faulthandler
import gc
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

from firsttoken import process
from firsttoken.engine.base import Engine, EngineSpec
from firsttoken.engines import build_engine
from firsttoken.plan import Unsupported
from firsttoken.server import protocol
from firsttoken.server.connection import Client, Job
from firsttoken.server.receiver import Receiver
from firsttoken.server.sender import Sender, SendQueue

MAX_REASON_CHARACTERS = 2000

# With CPython's 5 ms, a reader or capture thread that is busy in Python delays the engine thread by up to as much each
# time that it gives up the interpreter lock; measured 5.3 ms a step against 0.29 ms with 0.05 ms.
SWITCH_INTERVAL_S = 5e-5


class Generator:
    """Serves one engine to all who connect. `serve` runs in the engine thread; `stop` may be called from any."""

    def __init__(self, listener: socket.socket, build: Callable[[], Engine]) -> None:
        self._listener = listener
        self._build = build
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._receiver = Receiver(self._handle)
        self._greeting: bytes | None = None
        self._greeting_lock = threading.Lock()
        self._sender = Sender(self._waiting_queues)
        self._current: Job | None = None
        self._stopping = False
        self.loading = True

    def serve(self) -> None:
        """Make the engine, tell every client, run requests until `stop`."""
        acceptor = process.start_thread("ft-acceptor", self._accept)
        sender = process.start_thread("ft-sender", self._sender.run)
        reader = process.start_thread("ft-reader", self._receiver.read_beside)
        engine = self._make_engine()
        self.loading = False
        try:
            while (job := self._next_job()) is not None:
                self._current = job
                if self._stopping:
                    break
                if not job.claim():
                    continue
                if engine is None:
                    job.client.finish(job, protocol.RequestFailed(job.request.request, "engine", "there is no engine"))
                else:
                    self._run(engine, job)
        finally:
            if engine is not None:
                engine.close()
            self.stop()
            acceptor.join()
            sender.join()
            reader.join()
            self._receiver.close()
            self._sender.close()

    def stop(self) -> None:
        """End `serve` soon: the running request is cancelled, waiting ones are dropped. Idempotent."""
        self._stopping = True
        if self._current is not None:
            self._current.cancelled = True
        self._queue.put(None)
        self._receiver.stop()
        self._sender.stop()
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`, which closing would not

    # ------------------------------------------------------------ engine thread

    def _make_engine(self) -> Engine | None:
        """The engine, or None after telling why there is none; the process then waits for its owner to end it."""
        engine: Engine | None = None
        try:
            engine = self._build()
            process.name_this_thread("ft-engine")  # only now: threads that libraries start meanwhile inherit the name
            gc.collect()
            gc.freeze()  # the engine's objects stay: no collection should walk them during a request
            self._greet(protocol.Ready(engine.setup))
        except Unsupported as error:
            self._greet(protocol.Refused(True, _one_line(str(error))))
        except Exception as error:
            traceback.print_exc()
            self._greet(protocol.Refused(False, _describe(error)))
        return engine

    def _next_job(self) -> Job | None:
        """The next request, None to stop; while there is none, this thread reads."""
        with self._receiver.by_engine():
            while True:
                try:
                    return self._queue.get(block=False)
                except Empty:
                    self._receiver.wait_and_read()

    def _run(self, engine: Engine, job: Job) -> None:
        request = job.request
        try:
            if isinstance(request, protocol.Generate):
                self._generate(engine, job, request)
            elif isinstance(request, protocol.SaveLogits):
                offered = engine.save_logits(request.prompt_ids, request.continuation_ids, Path(request.path))
                job.client.finish(job, protocol.Saved(request.request, offered))
            else:
                answer = protocol.Inspection(request.request, engine.memory(), engine.counters(), engine.facts())
                job.client.finish(job, answer)
        except ValueError as error:
            job.client.finish(job, protocol.RequestFailed(request.request, "invalid", _one_line(str(error))))
        except Exception as error:
            traceback.print_exc()
            job.client.finish(job, protocol.RequestFailed(request.request, "engine", _describe(error)))

    def _generate(self, engine: Engine, job: Job, request: protocol.Generate) -> None:
        started_ns = time.perf_counter_ns()
        number, put, encode, now, token_message = (
            request.request, job.client.send_queue.put, protocol.encode, time.perf_counter_ns, protocol.Token,
        )  # fmt: skip
        pushed_ns: list[int] = []

        def emit(token: int) -> None:
            pushed_ns.append(now())
            put(encode(token_message(number, token)))

        engine.generate(request.prompt_ids, request.max_new_tokens, emit, lambda: job.cancelled)
        cancelled = len(pushed_ns) < request.max_new_tokens
        if cancelled and self._stopping:
            return  # the client did not ask for this: the end of its connection tells it
        if len(pushed_ns) != request.max_new_tokens and not job.cancelled:
            raise RuntimeError(f"the engine gave {len(pushed_ns)} of {request.max_new_tokens} tokens")
        rows = [] if job.cancelled else list(engine.timings())
        if rows and len(rows) != len(pushed_ns):
            raise RuntimeError(f"the engine gave {len(rows)} timings for {len(pushed_ns)} tokens")
        parts = [
            protocol.Timings(
                number, pushed_ns[i : i + protocol.TIMINGS_PER_MESSAGE], rows[i : i + protocol.TIMINGS_PER_MESSAGE]
            )
            for i in range(0, len(pushed_ns), protocol.TIMINGS_PER_MESSAGE)
        ]
        job.client.finish(job, *parts, protocol.Done(number, cancelled, job.received_ns, started_ns))

    # ------------------------------------------------------------ acceptor thread

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._stopping:
                    break
                raise
            client = Client(connection, self._sender.stalled)
            with self._greeting_lock:
                self._receiver.add(client)
                if self._greeting is not None:
                    client.send_queue.put(self._greeting)
                    client.greeted = True
        self._listener.close()

    def _greet(self, greeting: protocol.Message) -> None:
        with self._greeting_lock:
            self._greeting = protocol.encode(greeting)
            for client in self._receiver.clients():
                client.send_queue.put(self._greeting)
                client.greeted = True

    def _handle(self, client: Client, message: protocol.ClientMessage) -> None:
        received_ns = time.perf_counter_ns()
        if isinstance(message, protocol.Cancel):
            job = client.jobs.get(message.request)
            if job is not None:  # else it is done, and the client will see so
                job.cancelled = True
                if job.claim():
                    client.finish(job, protocol.Done(message.request, True, job.received_ns, received_ns))
            return
        self._queue.put(client.begin(message, received_ns))

    def _waiting_queues(self) -> list[SendQueue]:
        """Of clients that are blocked on an answer; others do not read, and heartbeats would fill their socket."""
        return [client.send_queue for client in self._receiver.clients() if client.jobs or not client.greeted]


def main(build: Callable[[EngineSpec], Engine] = build_engine) -> None:
    """The whole life of the process: launch line from stdin, serve, end."""
    faulthandler.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    launch = msgspec.json.decode(sys.stdin.readline(), type=process.Launch)
    listener = socket.socket(fileno=launch.listener)
    listener.set_inheritable(False)
    spec = msgspec.json.decode(launch.spec, type=EngineSpec)

    def timed_build() -> Engine:
        started_s = (time.perf_counter_ns() - launch.spawned_ns) / 1e9
        engine = build(spec)
        engine.setup = msgspec.structs.replace(engine.setup, imports_s=engine.setup.imports_s + started_s)
        return engine

    generator = Generator(listener, timed_build)

    def stop() -> None:
        if generator.loading:  # no request to end in order, and a library may be busy for minutes
            process.end_now()
        generator.stop()

    process.end_with_owner(launch, stop)
    generator.serve()


def _describe(error: Exception) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    """Fit for a message: libraries raise texts of many lines, and file names that are no UTF-8."""
    return " | ".join(text.encode(errors="replace").decode().splitlines())[:MAX_REASON_CHARACTERS]


if __name__ == "__main__":
    main()
