"""Clients of one generator that send rubbish, never read, never stop or leave: another client is served all the same.

`FAULTS_FRAMES` is the number of random frames; the other cases grow with it.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from fakes.waiting import wait_for
from firsttoken.engine.base import EngineSpec
from firsttoken.plan import Plan
from firsttoken.server import protocol
from firsttoken.server.client import GENERATOR_COMMAND, GeneratorClient
from unit.server import scripted_generator

FRAMES = int(os.environ.get("FAULTS_FRAMES", "2000"))
SEED = 1
MAX_CONTEXT = 20_000
DEADLINE_S = 20.0  # generous: a hang is a failure, a busy machine is not; the times are printed
GROWTH_BYTES = 64 * 2**20

pytestmark = pytest.mark.slow

REQUESTS = (
    protocol.Generate(1, [5, 6, 7, 8], 4),
    protocol.Cancel(1),
    protocol.Inspect(2),
    protocol.SaveLogits(3, [1, 2], [3], "/nonexistent/x"),
)
VALUES: tuple[object, ...] = (
    0, -1, 2**63, 2**31, 1.5, None, [], {}, "x", b"y", [1] * 50, [-1], [2**31], [None], True, "/etc/passwd",
)  # fmt: skip


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> Iterator[GeneratorClient]:
    """The client that owns the generator, whose memory must be the same again at the end. By default the null engine's,
    which takes no time; else that of a scripted one."""
    behaviour = getattr(request, "param", "")
    command = (*GENERATOR_COMMAND[:2], scripted_generator.__file__) if behaviour else GENERATOR_COMMAND
    plan = Plan(prompt_lengths=(4,), new_tokens=4, max_context=MAX_CONTEXT, dtype="float32", device="cpu")
    spec = EngineSpec(model_dir=behaviour, plan=plan, forward="null", dynamic_operations="none")
    with GeneratorClient.launch(spec, command, silence_s=DEADLINE_S) as client:
        client.wait_until_ready()
        assert_served(client, "before")
        before = memory(client)
        yield client
        with GeneratorClient.attach(client.address, silence_s=DEADLINE_S) as late:
            late.wait_until_ready()
            assert_served(late, "a new client afterwards")
        grown = memory(client) - before
        print(f"memory: {grown / 2**20:+.1f} MiB")
        assert grown < GROWTH_BYTES


def memory(owner: GeneratorClient) -> int:
    """Bytes that the generator holds."""
    return int(psutil.Process(owner.pid).memory_info().rss)


def assert_served(client: GeneratorClient, when: str) -> None:
    tokens: list[int] = []
    started_s = time.monotonic()
    client.generate([1], 4, tokens.append)
    seconds = time.monotonic() - started_s
    print(f"served {when} in {seconds:.3f} s")
    assert tokens in ([1, 1, 1, 1], [1, 2, 3, 4]) and seconds < DEADLINE_S


def open_connection(address: Path) -> socket.socket:
    """A socket that waits for nothing: what it cannot send at once it does not send."""
    connection = protocol.connect(address)
    connection.setblocking(False)
    return connection


def send(connection: socket.socket, data: bytes) -> bool:
    """False where the socket is full or closed."""
    try:
        connection.send(data)
    except OSError:
        return False
    return True


def frame(rng: random.Random) -> bytes:
    """A message, or what is left of one."""
    data = bytearray(protocol.encode(rng.choice(REQUESTS)))
    kind = rng.randrange(9)
    if kind == 0:
        return rng.randbytes(rng.choice([0, 1, 20, 200, 60_000, 200_000]))
    if kind == 1:
        return bytes(data[: rng.randrange(len(data) + 1)])
    if kind == 2:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 3:
        data += rng.randbytes(rng.randrange(1, 20))
    elif kind == 4:
        fields = rng.choices(VALUES, k=rng.randrange(6))
        return msgspec.msgpack.encode([rng.choice([1, 2, 3, 4, 16, 99, -1, 2**63]), *fields])
    elif kind == 5:  # arrays within arrays, alone and as a field
        return rng.choice([b"", b"\x94\x01\x01"]) + b"\x91" * rng.randrange(1, 200_000)
    elif kind == 6:  # an array that claims to be large
        return rng.choice([b"", b"\x94\x01\x01"]) + b"\xdd\x7f\xff\xff\xff" + b"\x01" * rng.randrange(2000)
    return bytes(data)


def test_random_frames(owner: GeneratorClient) -> None:
    rng = random.Random(SEED)
    connections: list[socket.socket] = []
    sent = closed = 0
    while sent < FRAMES:
        while len(connections) < 8:
            connections.append(open_connection(owner.address))
        connection = rng.choice(connections)
        was_sent = send(connection, frame(rng))
        sent += was_sent
        if not was_sent or rng.random() < 0.02:
            closed += 1
            connection.close()
            connections.remove(connection)
        if was_sent and sent % (FRAMES // 5) == 0:
            assert_served(owner, f"after {sent} frames")
    for connection in connections:
        connection.close()
    print(f"{sent} frames, {closed} connections closed")


def test_connections_that_say_nothing(owner: GeneratorClient) -> None:
    """With fewer descriptors than there are connections, too."""
    assert owner.pid is not None
    held = []
    for descriptors in (1024, 24):
        hard = resource.prlimit(owner.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(owner.pid, resource.RLIMIT_NOFILE, (descriptors, hard))
        for _ in range(64):  # what waits to be accepted fits the listener's queue
            held.append(open_connection(owner.address))
        time.sleep(0.1)
        assert_served(owner, f"beside {len(held)} connections, {descriptors} descriptors")
        for connection in held:
            connection.close()
        held.clear()
        assert_served(owner, "when they have gone")
    for _ in range(FRAMES):
        open_connection(owner.address).close()
    assert_served(owner, f"after {FRAMES} connections")


def test_readers_that_do_not_read(owner: GeneratorClient) -> None:
    stuck = [open_connection(owner.address) for _ in range(8)]
    for connection in stuck:
        for number in range(3):
            send(connection, protocol.encode(protocol.Generate(number, [5], MAX_CONTEXT - 1)))
    assert_served(owner, "beside clients that do not read")
    for connection in stuck:
        connection.close()
    assert_served(owner, "when they have left with all that waited for them")


@pytest.mark.parametrize("owner", ["paced"], indirect=True)
def test_clients_that_leave_with_long_requests_waiting(owner: GeneratorClient) -> None:
    """Behind one that takes 100 s."""
    long = [protocol.encode(protocol.Generate(number, list(range(40_000)), 4)) for number in range(4)]
    busy = open_connection(owner.address)
    send(busy, protocol.encode(protocol.Generate(1, [5], MAX_CONTEXT)))
    before = memory(owner)
    for _ in range(max(FRAMES // 100, 1)):
        leaving = open_connection(owner.address)
        for message in long:
            send(leaving, message)
            time.sleep(0.02)  # read by now, though the engine is busy
        leaving.close()
    grown = memory(owner) - before
    print(f"memory: {grown / 2**20:+.1f} MiB")
    assert grown < GROWTH_BYTES
    busy.close()
    assert_served(owner, "after clients that left")


@pytest.mark.parametrize("message", [protocol.Cancel(999), protocol.Inspect(999), protocol.Generate(999, [5], 0)])
def test_floods(owner: GeneratorClient, message: protocol.Message) -> None:
    """Of cancellations, of requests that nobody waits for, and of invalid ones; from processes that never pause."""
    flood = (
        "import sys; from pathlib import Path; from firsttoken.server import protocol\n"
        "while True:\n"
        "    try:\n"
        "        connection = protocol.connect(Path(sys.argv[1]))\n"
        "        while True: connection.send(bytes.fromhex(sys.argv[2]))\n"
        "    except (OSError, protocol.Disconnected): pass\n"
    )
    command = [sys.executable, "-c", flood, str(owner.address), protocol.encode(message).hex()]
    environment = {**os.environ, "PYTHONPATH": str(Path(protocol.__file__).parents[2])}
    flooding = [subprocess.Popen(command, env=environment) for _ in range(2)]
    try:
        time.sleep(0.5)
        for _ in range(max(FRAMES // 200, 1)):
            assert_served(owner, "during the flood")
    finally:
        for process in flooding:
            process.kill()
            process.wait()


def test_clients_that_stop_or_are_killed_within_a_request(owner: GeneratorClient) -> None:
    code = (
        "import os, sys; from pathlib import Path; from firsttoken.server.client import GeneratorClient\n"
        "client = GeneratorClient.attach(Path(sys.argv[1])); client.wait_until_ready()\n"
        f"client.generate([5], {MAX_CONTEXT - 1}, lambda token: os.kill(os.getpid(), int(sys.argv[2])))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(protocol.__file__).parents[2])}
    for number in (signal.SIGSTOP, signal.SIGKILL):
        command = [sys.executable, "-c", code, str(owner.address), str(int(number))]
        with subprocess.Popen(command, env=environment) as client:
            wait_for(lambda client=client: psutil.Process(client.pid).status() in ("stopped", "zombie"))  # type: ignore[misc]
            assert_served(owner, f"beside a client after {number.name}")
            client.kill()
        assert_served(owner, "when it has gone")
