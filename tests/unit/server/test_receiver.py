"""Who reads what clients send, and how an idle engine waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from firsttoken.server import protocol
from firsttoken.server import receiver as intake
from firsttoken.server.connection import Client
from firsttoken.server.receiver import Receiver

AT_ONCE, ASLEEP = 0, -1  # how long a poll may wait


class CountedPoll:
    """Stands before an epoll and keeps how long each call was willing to wait."""

    def __init__(self, intake: Receiver, before_sleep: Callable[[], object] = lambda: None) -> None:
        self._real = intake._sockets
        self._before_sleep = before_sleep
        self.waits: list[float] = []
        intake._sockets = self  # type: ignore[assignment]

    def poll(self, timeout: float = ASLEEP) -> list[tuple[int, int]]:
        self.waits.append(timeout)
        if timeout == ASLEEP:
            self._before_sleep()
        return self._real.poll(timeout)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


@pytest.fixture
def ends() -> Iterator[tuple[Receiver, socket.socket, list[protocol.ClientMessage]]]:
    """An intake with one client, that client's end of the socket, and the messages that were handled."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handled: list[protocol.ClientMessage] = []
    made = Receiver(lambda client, message: handled.append(message))
    made.add(Client(theirs, lambda send_queue: None))
    yield made, ours, handled
    made.stop()
    made.close()
    ours.close()


def test_a_request_that_is_there_is_read_without_sleeping(
    ends: tuple[Receiver, socket.socket, list[protocol.ClientMessage]],
) -> None:
    made, ours, handled = ends
    ours.send(protocol.encode(protocol.Inspect(1)))
    poll = CountedPoll(made)
    with made.by_engine():
        made.wait_and_read()
    assert handled == [protocol.Inspect(1)]
    assert poll.waits == [AT_ONCE]


def test_an_engine_watches_for_a_while_then_sleeps(
    ends: tuple[Receiver, socket.socket, list[protocol.ClientMessage]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, ours, handled = ends
    ticks = iter(range(100))
    monkeypatch.setattr(intake.time, "perf_counter_ns", lambda: next(ticks) * intake.WATCH_NS // 4)
    poll = CountedPoll(made, before_sleep=lambda: ours.send(protocol.encode(protocol.Inspect(2))))
    with made.by_engine():
        made.wait_and_read()
    assert handled == [protocol.Inspect(2)]
    assert poll.waits == [AT_ONCE] * 4 + [ASLEEP]


def test_a_stop_wakes_a_sleeping_engine(ends: tuple[Receiver, socket.socket, list[protocol.ClientMessage]]) -> None:
    made, _, handled = ends
    later = threading.Timer(0.05, made.stop)
    later.start()
    with made.by_engine():
        made.wait_and_read()
    later.join()
    assert handled == []


def test_a_client_that_talks_nonsense_loses_its_connection_alone(
    ends: tuple[Receiver, socket.socket, list[protocol.ClientMessage]], capsys: pytest.CaptureFixture[str]
) -> None:
    made, ours, handled = ends
    other, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.add(Client(theirs, lambda send_queue: None))
    other.send(b"\xc1")
    ours.send(protocol.encode(protocol.Inspect(3)))
    with made.by_engine():
        made.wait_and_read()
    assert other.recv(16) == b""  # closed
    assert handled == [protocol.Inspect(3)] and len(made.clients()) == 1
    assert "connection closed" in capsys.readouterr().err
    other.close()
