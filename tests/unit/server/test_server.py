"""The generator's threads and connections: what clients may do, one thing at a time."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.waiting import wait_for
from firsttoken.results import SetupTimes
from firsttoken.server import connection as connection_module
from firsttoken.server import protocol
from firsttoken.server import server as server_module
from firsttoken.server.connection import MAX_WAITING_REQUESTS
from firsttoken.server.server import MAX_CLIENTS, Generator
from unit.server.served import Peer, SteppedEngine, served

AT_ONCE, ASLEEP = 0, -1  # how long a poll may wait
SPIN_US = 1000


def test_an_idle_engine_reads_for_itself_and_another_thread_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: an engine that leaves all reading to the other thread, whose hand-over each first token waits for;
    and nobody who reads beside it."""
    readers: list[str] = []
    handle = Generator._handle

    def noted(self: Generator, client: Any, message: protocol.ClientMessage) -> None:
        readers.append(threading.current_thread().name)
        handle(self, client, message)

    monkeypatch.setattr(Generator, "_handle", noted)
    with served() as running:
        peer = Peer(running.address)
        peer.read_until(protocol.Ready)
        time.sleep(0.05)  # the engine's thread waits, and the reader has looked around a few times
        for number in range(3):
            running.ask(peer, protocol.Generate(2 * number, [5], 1))
            running.ask(peer, protocol.Generate(2 * number + 1, [5], 1))  # while the first waits for its permit
            running.engine.permits.release(2)
            for _ in range(2):
                peer.read_until(protocol.Done)
    assert readers == [running.thread.name, "ft-clients"] * 3


class CountedPoll:
    """Stands before the generator's epoll and keeps how long each call was willing to wait."""

    def __init__(self, generator: Generator, before_sleep: Callable[[], object]) -> None:
        self._real = generator._sockets
        self._before_sleep = before_sleep
        self.waits: list[float] = []

    def poll(self, timeout: float = ASLEEP) -> list[tuple[int, int]]:
        self.waits.append(timeout)
        if timeout == ASLEEP:
            self._before_sleep()
        return self._real.poll(timeout)


@pytest.fixture
def idle() -> Iterator[tuple[Generator, Peer]]:
    """A generator that nobody serves, and a client that it has accepted."""
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "s"
        generator = Generator(protocol.listen(address), SteppedEngine, SPIN_US)
        peer = Peer(address)
        generator._wait_and_read(0)
        yield generator, peer
        generator.stop()
        generator._listener.close()


def test_a_request_that_is_there_is_read_without_sleeping(idle: tuple[Generator, Peer]) -> None:
    generator, peer = idle
    peer.send(protocol.Inspect(1))
    poll = CountedPoll(generator, before_sleep=lambda: None)
    generator._sockets = poll  # type: ignore[assignment]
    generator._wait_and_read(SPIN_US)
    assert generator._waiting.popleft().request == protocol.Inspect(1)
    assert poll.waits == [AT_ONCE]


@pytest.mark.parametrize(("capturing", "looks"), [(False, 4), (True, 1)])
def test_an_engine_polls_for_a_while_then_sleeps_and_does_not_poll_beside_a_capture(
    capturing: bool, looks: int, idle: tuple[Generator, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing: a poll that goes on beside a capture, which it slows."""
    generator, peer = idle
    engine = SteppedEngine()
    monkeypatch.setattr(engine, "capturing", lambda: capturing)
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks) * SPIN_US * 1000 // 4)
    poll = CountedPoll(generator, before_sleep=lambda: peer.send(protocol.Inspect(2)))
    generator._sockets = poll  # type: ignore[assignment]
    job = generator._next_job(engine)
    assert job is not None and job.request == protocol.Inspect(2)
    assert poll.waits == [AT_ONCE] * looks + [ASLEEP]


def test_a_stop_wakes_a_sleeping_engine(idle: tuple[Generator, Peer]) -> None:
    generator, _ = idle
    later = threading.Timer(0.05, generator.stop)
    later.start()
    generator._wait_and_read(SPIN_US)
    later.join()
    assert generator._next_job(SteppedEngine()) is None


def test_a_client_that_left_while_tokens_wait_for_it_stops_nothing() -> None:
    """A backlog that is dropped while it is sent must not end the thread that serves all clients."""
    with served() as running:
        running.engine.free.set()
        slow, other = Peer(running.address), Peer(running.address)
        running.ask(slow, protocol.Generate(1, [5], 5000))
        wait_for(lambda: running.engine.token == 5000)
        slow.socket.close()
        wait_for(lambda: len(running.generator._clients) == 1)
        running.engine.free.clear()
        running.ask(other, protocol.Generate(1, [6], 1))
        running.ask(other, protocol.Generate(2, [6], 1))  # read by the thread beside the engine's
        running.engine.free.set()
        for _ in range(2):
            other.read_until(protocol.Done)


def test_a_late_client_is_greeted_too_and_requests_sent_before_the_greeting_wait() -> None:
    with served() as running:
        running.engine.free.set()
        for _ in range(2):
            peer = Peer(running.address)
            peer.send(protocol.Generate(1, [5], 3))
            done = peer.read_until(protocol.Done)
            assert isinstance(done, protocol.Done) and done.received_ns <= done.started_ns
            said = [message for message in peer.seen if not isinstance(message, protocol.Heartbeat)]
            assert said[0] == protocol.Ready(SetupTimes(load_s=1.5), spin_us=0)
            assert len(peer.tokens(1)) == 3


@pytest.mark.parametrize(
    "poison",
    [
        b"\xff",
        b"",
        b"x" * (protocol.MAX_MESSAGE_BYTES + 1),
        protocol.encode(protocol.Heartbeat()),
        "same number",
        "too many",
    ],
    ids=["garbage", "empty", "oversized", "wrong direction", "same number", "too many"],
)
def test_a_malformed_message_costs_its_sender_the_connection_and_others_nothing(poison: bytes | str) -> None:
    with served() as running:
        good, bad = Peer(running.address), Peer(running.address)
        running.ask(good, protocol.Generate(1, [5], 2))
        bad.read_until(protocol.Ready)
        if isinstance(poison, bytes):
            bad.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * protocol.MAX_MESSAGE_BYTES)
            bad.socket.send(poison)
        else:
            for number in [1, 1] if poison == "same number" else range(MAX_WAITING_REQUESTS + 1):
                bad.send(protocol.Generate(number, [6], 1))
        if poison:  # else it reads as the end of the connection
            assert bad.read_until(protocol.Refused).reason.startswith("connection closed: ")
        with pytest.raises(protocol.Disconnected):
            bad.read_until(protocol.Done)
        running.engine.free.set()
        good.read_until(protocol.Done)
        assert len(good.tokens(1)) == 2
        assert running.engine.prompts == [5]  # nothing of the bad client was run


def test_what_a_client_had_waiting_goes_with_it() -> None:
    """Seen failing: the queue keeps the requests of departed clients as long as another's runs."""
    with served() as running:
        busy, leaving = Peer(running.address), Peer(running.address)
        running.ask(busy, protocol.Generate(1, [5], 1))
        for number in range(MAX_WAITING_REQUESTS):
            running.ask(leaving, protocol.Generate(number, [6], 1))
        running.ask(busy, protocol.Generate(2, [7], 1))
        left = weakref.ref(running.queued[1].client)
        running.queued.clear()
        leaving.socket.close()
        wait_for(lambda: len(running.generator._waiting) == 1 and left() is None)
        running.engine.free.set()
        for _ in range(2):
            busy.read_until(protocol.Done)
        assert running.engine.prompts == [5, 7]


def test_a_client_too_many_hears_the_limit_and_is_welcome_when_another_left() -> None:
    """Seen failing: clients without a limit, until there is no descriptor left."""
    with served() as running:
        peers = [Peer(running.address) for _ in range(MAX_CLIENTS)]
        for peer in peers:
            peer.read_until(protocol.Ready)
        one_more = Peer(running.address)
        assert str(MAX_CLIENTS) in one_more.read_until(protocol.Refused).reason
        peers[0].socket.close()
        wait_for(lambda: len(running.generator._clients) < MAX_CLIENTS)
        Peer(running.address).read_until(protocol.Ready)


def test_without_a_free_descriptor_clients_wait_and_the_engine_can_still_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen failing: the generator ends."""
    monkeypatch.setattr(server_module, "HEARTBEAT_S", 0.05)
    with served() as running:
        old = Peer(running.address)
        old.read_until(protocol.Ready)
        real = running.generator._listener
        running.generator._listener = ListenerWithoutDescriptors(real)  # type: ignore[assignment]
        new = Peer(running.address)
        old.send(protocol.Inspect(1))
        old.read_until(protocol.Inspection)
        running.generator._listener = real
        new.read_until(protocol.Ready)
        running.generator._sockets.modify(real, 0)


class ListenerWithoutDescriptors:
    """`accept` as it is in a process that has used up its descriptors."""

    def __init__(self, real: socket.socket) -> None:
        self.fileno = real.fileno

    def accept(self) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_client_that_does_not_read_stalls_nobody_and_gets_all_when_it_reads() -> None:
    many = 5000  # far more than a socket holds
    with served() as running:
        running.engine.free.set()
        slow, quick = Peer(running.address), Peer(running.address)
        running.ask(slow, protocol.Generate(1, [5], many))
        running.ask(quick, protocol.Generate(1, [6], 3))
        quick.read_until(protocol.Done)  # comes although nobody has read the 5000
        slow.read_until(protocol.Done)
        assert slow.tokens(1) == list(range(1, many + 1))


def test_a_token_does_not_overtake_those_that_wait_for_a_slow_client() -> None:
    """Seen to fail when a token is sent at once although older ones wait."""
    with served() as running:
        slow = Peer(running.address)
        running.ask(slow, protocol.Generate(1, [5], 4001))
        running.engine.permits.release(4000)
        wait_for(lambda: running.engine.token == 4000)  # most of them no longer fit the socket
        for _ in range(20):
            slow.read_until(protocol.Token)  # room for a few, too little for the kernel to call it writable
        running.engine.permits.release(1)
        wait_for(lambda: running.engine.token == 4001)
        slow.read_until(protocol.Done)
        assert slow.tokens(1) == list(range(1, 4002))


def test_a_client_too_far_behind_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "BACKLOG_BYTES", 1000)
    with served() as running:
        running.engine.free.set()
        slow, quick = Peer(running.address), Peer(running.address)
        running.ask(slow, protocol.Generate(1, [5], 50_000))
        running.ask(quick, protocol.Generate(1, [6], 3))
        quick.read_until(protocol.Done)
        assert running.engine.token < 50_000  # its request was cancelled
        with pytest.raises(protocol.Disconnected):
            slow.read_until(protocol.Done)


def test_waiting_clients_get_heartbeats_and_idle_ones_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEARTBEAT_S", 0.02)
    with served() as running:
        waiting, idle = Peer(running.address), Peer(running.address)
        idle.read_until(protocol.Ready)
        running.ask(waiting, protocol.Generate(1, [5], 1))
        for _ in range(5):
            waiting.read_until(protocol.Heartbeat)
        running.engine.free.set()
        waiting.read_until(protocol.Done)
        idle.send(protocol.Inspect(1))
        idle.read_until(protocol.Inspection)
        kinds = [type(message) for message in idle.seen]
        own = kinds[kinds.index(protocol.Ready) :].count(protocol.Heartbeat)
        assert own < 5, "a busy machine may send some while its own reply is due, but none for the request of another"
