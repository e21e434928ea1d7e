"""The generator process: `python -m firsttoken.server.server`, started by `client.GeneratorClient.launch`.

    ft-engine    main thread: makes the engine, accepts clients and reads requests while it has none to run, runs them
                 one after another, sends tokens without blocking
    ft-clients   accepts and reads while the engine loads or runs; sends what a slow client's socket did not take at
                 once; heartbeats
    ft-owner     ends the process with its owner (see `process`)

An engine may have threads of its own, such as the one that captures graphs. Requests of all clients wait in one FIFO
queue. Where a thread of ours fails, all clients hear why and the process ends.

What comes to an idle engine is read where it will be run: handed over by another thread, a request waited 60 us for
the engine's thread on a GPU host (queue_ns of a study), 7 us on two idle cores (`benchmarks/ipc.py`).
"""

from __future__ import annotations

import errno
import faulthandler
import select
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from firsttoken import process
from firsttoken.collector import garbage_collector_off
from firsttoken.engine.base import Engine, EngineSpec
from firsttoken.engines import build_engine
from firsttoken.plan import Unsupported
from firsttoken.results import SetupTimes
from firsttoken.server import protocol
from firsttoken.server.connection import Client, Job
from firsttoken.server.spin import poll_for, usable_spin_us
from firsttoken.transient import is_transient

MAX_REASON_CHARACTERS = 300
HEARTBEAT_S = 1.0
MAX_CLIENTS = 32  # a study has four; each has a descriptor, of 1,024 by default, and a buffer for its longest message
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # of `accept`: pass when others close theirs

# While a request runs, a message may lie in its socket for this long; with several clients that wait counts as IPC.
# Looking now and then costs the engine less than a thread that each message wakes. One message of each client at a
# time: what a client sends without pause waits in its own socket.
SERVICE_INTERVAL_S = 0.005

# With CPython's 5 ms, a thread that is busy in Python delays the engine thread by up to as much each time that it
# gives up the interpreter lock; measured 5.3 ms a step against 0.29 ms with 0.05 ms.
SWITCH_INTERVAL_S = 5e-5


class Generator:
    """Serves one engine to all who connect. `serve` runs in the engine thread; `stop` may be called from any."""

    def __init__(self, listener: socket.socket, build: Callable[[], Engine], spin_us: int) -> None:
        """`spin_us`: how long the idle engine polls before it sleeps, and the clients too."""
        self._listener = listener
        self._build = build
        self._spin_us = spin_us
        self._waiting: deque[Job] = deque()
        self._clients: dict[int, Client] = {}  # by the descriptor of the socket
        self._sockets = select.epoll()
        self._sockets.register(listener, select.EPOLLIN)
        self._reading = threading.Lock()  # whoever holds it may accept and read; the engine while it has nothing to run
        self._greeting: bytes | None = None  # changed under that lock
        self._current: Job | None = None
        self._stopping = False
        self.loading = True

    def serve(self) -> None:
        """Make the engine, tell every client, run requests until `stop`."""
        self._read(self._sockets.poll(0))  # the owner is at the door, and hears why a load failed at once
        service = process.start_thread("ft-clients", self._serve_clients)
        engine: Engine | None = None
        try:
            engine = self._build()
            process.name_this_thread("ft-engine")  # only now: threads that libraries start meanwhile inherit the name
            self.loading = False
            with garbage_collector_off():
                self._greet(engine.setup)
                self._run_jobs(engine)
        except Unsupported as error:
            self._tell_all(protocol.Refused("unsupported", _one_line(str(error))))
        except BaseException as error:
            self._tell_all(protocol.Refused(_kind(error), _describe(error)))
            raise
        finally:
            if engine is not None:
                engine.close()
            self.stop()
            service.join()
            for client in self._clients.values():
                client.close()
            self._sockets.close()
            self._listener.close()

    def stop(self) -> None:
        """End `serve` soon: the running request is cancelled, waiting ones are dropped. Idempotent."""
        self._stopping = True
        if self._current is not None:
            self._current.cancelled = True
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes an engine that waits; closing would not

    def fail(self, reason: str) -> NoReturn:
        """Tell all clients why, and end the process at once, whatever the other threads do."""
        try:
            self._tell_all(protocol.Refused("transient", _one_line(reason)))
            print(f"generator: {reason}", file=sys.stderr, flush=True)
        finally:
            process.end_now()

    def _tell_all(self, message: protocol.Message) -> None:
        for client in self._clients.copy().values():
            client.put(protocol.encode(message))

    # ------------------------------------------------------------ engine thread

    def _greet(self, setup: SetupTimes) -> None:
        with self._reading:
            self._greeting = protocol.encode(protocol.Ready(setup, self._spin_us))
            for client in self._clients.values():
                client.greet(self._greeting)

    def _run_jobs(self, engine: Engine) -> None:
        while (job := self._next_job(engine)) is not None:
            self._current = job
            if self._stopping:
                break
            if job.cancelled:
                self._end_cancelled(job, time.perf_counter_ns())
            else:
                self._run(engine, job)

    def _next_job(self, engine: Engine) -> Job | None:
        """The next request, None to stop; while there is none, this thread reads."""
        with self._reading:
            while not self._stopping:
                if self._waiting:
                    return self._waiting.popleft()
                # Beside a thread that polls, one that computes in Python takes twice as long.
                self._wait_and_read(0 if engine.capturing() else self._spin_us)
        return None

    def _wait_and_read(self, spin_us: int) -> None:
        """Wait until a client connects or sends something, or `stop`."""
        look = self._sockets.poll
        self._read(poll_for(look, spin_us) or look())

    def _run(self, engine: Engine, job: Job) -> None:
        request = job.request
        try:
            if isinstance(request, protocol.Generate):
                self._generate(engine, job, request)
            elif isinstance(request, protocol.SaveLogits):
                offered = engine.save_logits(request.prompt_ids, request.continuation_ids, Path(request.path))
                job.client.finish(job, protocol.Saved(request.request, offered))
            else:
                counters = {**engine.counters(), "generator_cpu_s": time.process_time()}
                reply = protocol.Inspection(request.request, engine.memory(), counters, engine.facts())
                job.client.finish(job, reply)
        except ValueError as error:
            job.client.finish(job, protocol.RequestFailed(request.request, "invalid", _one_line(str(error))))
        except Exception as error:
            traceback.print_exc()
            job.client.finish(job, protocol.RequestFailed(request.request, _kind(error), _describe(error)))

    def _generate(self, engine: Engine, job: Job, request: protocol.Generate) -> None:
        started_ns = time.perf_counter_ns()
        number, put, encode, now, token_message = (
            request.request, job.client.put, protocol.encode, time.perf_counter_ns, protocol.Token,
        )  # fmt: skip
        pushed_ns: list[int] = []

        def emit(token: int) -> None:
            pushed_ns.append(now())
            put(encode(token_message(number, token)))

        engine.generate(request.prompt_ids, request.max_new_tokens, emit, lambda: job.cancelled)
        if job.cancelled:
            self._end_cancelled(job, started_ns)
            return
        if len(pushed_ns) != request.max_new_tokens:
            raise RuntimeError(f"the engine gave {len(pushed_ns)} of {request.max_new_tokens} tokens")
        rows = list(engine.timings())
        if rows and len(rows) != len(pushed_ns):
            raise RuntimeError(f"the engine gave {len(rows)} timings for {len(pushed_ns)} tokens")
        parts = [
            protocol.Timings(
                number, pushed_ns[i : i + protocol.TIMINGS_PER_MESSAGE], rows[i : i + protocol.TIMINGS_PER_MESSAGE]
            )
            for i in range(0, len(pushed_ns), protocol.TIMINGS_PER_MESSAGE)
        ]
        job.client.finish(job, *parts, protocol.Done(number, job.received_ns, started_ns))

    def _end_cancelled(self, job: Job, started_ns: int) -> None:
        if not self._stopping:  # else the client did not ask for this: the end of its connection tells it
            job.client.finish(job, protocol.Done(job.request.request, job.received_ns, started_ns))

    # ------------------------------------------------------------ the thread beside

    def _serve_clients(self) -> None:
        heartbeat = protocol.encode(protocol.Heartbeat())
        due_s = time.monotonic() + HEARTBEAT_S
        while not self._stopping:
            time.sleep(SERVICE_INTERVAL_S)
            if self._reading.acquire(blocking=False):
                try:
                    self._read(self._sockets.poll(0))
                finally:
                    self._reading.release()
            clients = self._clients.copy()  # in one step, since the engine may be reading
            for client in clients.values():
                if client.backlog:
                    client.flush()
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + HEARTBEAT_S
                self._sockets.modify(self._listener, select.EPOLLIN)  # see `_accept`
                for client in clients.values():
                    # Others do not read, and heartbeats would fill their socket.
                    if (client.jobs or not client.greeted) and not client.backlog:
                        client.put(heartbeat)

    # ------------------------------------------------------------ whichever thread reads

    def _read(self, events: list[tuple[int, int]]) -> None:
        """Accept a client, and take one message of each that has sent one."""
        for descriptor, _ in events:
            client = self._clients.get(descriptor)
            if client is None:
                self._accept()
                continue
            try:
                self._handle(client, client.inbox.receive())
            except protocol.Disconnected:
                self._drop(client)  # the usual end
            except protocol.WireError as error:
                reason = _one_line(str(error))
                if error.request is not None:
                    client.put(protocol.encode(protocol.RequestFailed(error.request, "invalid", reason)))
                else:
                    client.put(protocol.encode(protocol.Refused("transient", f"connection closed: {reason}")))
                    self._drop(client)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if self._stopping:
                return
            if error.errno not in _NO_ROOM:
                raise
            print(f"generator: accepts no client for {HEARTBEAT_S:g} s: {error}", file=sys.stderr, flush=True)
            self._sockets.modify(self._listener, 0)  # the next heartbeat listens again; `stop` is heard all the same
            return
        client = Client(connection)
        if len(self._clients) >= MAX_CLIENTS:
            client.put(
                protocol.encode(protocol.Refused("transient", f"the generator has {MAX_CLIENTS} clients, its limit"))
            )
            client.close()
            return
        self._clients[client.fileno()] = client
        self._sockets.register(client, select.EPOLLIN)
        if self._greeting is not None:
            client.greet(self._greeting)

    def _handle(self, client: Client, message: protocol.ClientMessage) -> None:
        if isinstance(message, protocol.Cancel):
            if message.request in client.jobs:  # else it has ended
                client.jobs[message.request].cancelled = True
            return
        self._waiting.append(client.begin(message, time.perf_counter_ns()))

    def _drop(self, client: Client) -> None:
        self._sockets.unregister(client)
        del self._clients[client.fileno()]
        client.close()
        for job in client.jobs.copy().values():
            with suppress(ValueError):  # it runs
                self._waiting.remove(job)
        client.jobs.clear()  # each refers to its client, and the collector of such rings is off


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

    generator = Generator(listener, timed_build, usable_spin_us(spec.plan))

    def stop() -> None:
        if generator.loading:  # no request to end in order, and a library may be busy for minutes
            process.end_now()
        generator.stop()

    process.end_with_owner(launch, stop, generator.fail)
    generator.serve()


def _kind(error: BaseException) -> protocol.ErrorKind:
    return "transient" if is_transient(error) else "engine"


def _describe(error: BaseException) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    """Fit for a message: libraries raise texts of many lines, and file names that are no UTF-8."""
    return " | ".join(text.encode(errors="replace").decode().splitlines())[:MAX_REASON_CHARACTERS]


if __name__ == "__main__":
    main()
