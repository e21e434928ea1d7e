"""What the second process costs on this machine: `python benchmarks/ipc.py`.

1. The experiment of `measure_ipc`: null in one process, and behind a generator with 1, 2 and 4 clients.
2. Where a first token's time goes: request to reader thread, queue to engine thread, engine, push to client; for
   requests of one token and of eight, back to back and after a pause in which both sides fall asleep. The null engine
   pushes its eight in one burst. Where no core is idle, the kernel wakes the client on the engine's own core, and it
   reads the first token only when the burst is over. Once without polling, and once with it, which needs three cores.
3. The choice of `server/connection.py`: the engine thread sends a token itself, or hands it to a sender thread.

Targets on 2 cores that do nothing else: a first token gains under 60 us (median), a token gap under 30 us. Another load
on the machine adds to everything, so the best of several repeats is shown beside the median of all.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter_ns, sleep

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import msgspec
import numpy as np

from firsttoken.engine.base import EngineSpec
from firsttoken.measure.ipc import measure_ipc
from firsttoken.plan import Plan
from firsttoken.server.client import GeneratorClient
from firsttoken.server.server import SWITCH_INTERVAL_S

REPEATS = 5
REQUESTS = 1000
PAUSE_S, PAUSED_REQUESTS = 0.01, 200
PLAN = Plan(prompt_lengths=(100,), new_tokens=8, max_context=1024, dtype="float32", device="cpu", spin_us=50_000)

Serve = Callable[[socket.socket], None]


def line(name: str, samples_ns: list[list[int]]) -> str:
    """Best and overall median, and P99, of several repeats."""
    everything = sorted(value for repeat in samples_ns for value in repeat)
    best = min(np.median(repeat) for repeat in samples_ns)
    p99 = everything[int(0.99 * (len(everything) - 1))]
    overall = np.median(everything)
    return f"{name:44} best median {best / 1e3:7.1f}   median {overall / 1e3:7.1f}   P99 {p99 / 1e3:8.1f} us"


def print_experiment() -> None:
    """The table that a study gets."""
    for row in measure_ipc(PLAN):
        cell = f"{row.form} clients={row.clients} {row.metric}"
        print(f"{cell:44} mean {row.mean_us:7.1f}   median {row.median_us:7.1f}   P99 {row.p99_us:8.1f} us   n={row.n}")


def print_legs(plan: Plan) -> None:
    """Where a first token's time goes, by the tokens of the prompt and those asked for."""
    spec = EngineSpec(model_dir="", plan=plan, forward="null", dynamic_operations="none")
    with GeneratorClient.launch(spec) as client:
        client.wait_until_ready()
        print(f"polls for {client.facts().spin_us} us before it blocks")
        for length, tokens, pause_s in ((100, 1, 0.0), (100, 8, 0.0), (100, 8, PAUSE_S), (500, 8, 0.0)):
            legs: dict[str, list[list[int]]] = {}
            for _ in range(REPEATS):
                repeat: dict[str, list[int]] = {}
                for _ in range(PAUSED_REQUESTS if pause_s else REQUESTS):
                    if pause_s:
                        sleep(pause_s)
                    for leg, value in _legs_of_one_request(client, list(range(length)), tokens).items():
                        repeat.setdefault(leg, []).append(value)
                for leg, values in repeat.items():
                    legs.setdefault(leg, []).append(values)
            for leg, samples in legs.items():
                print(line(f"{'paused: ' if pause_s else ''}first of {tokens}, prompt {length}: {leg}", samples))


def _legs_of_one_request(client: GeneratorClient, prompt_ids: list[int], tokens: int) -> dict[str, int]:
    arrivals: list[int] = []
    started_ns = perf_counter_ns()
    client.generate(prompt_ids, tokens, lambda token: arrivals.append(perf_counter_ns()))
    first = client.timings()[0]
    assert first.ipc_ns is not None and first.queue_ns is not None
    return {"ipc, both ways": first.ipc_ns, "queue": first.queue_ns, "whole": arrivals[0] - started_ns}


def echo(connection: socket.socket) -> None:
    """The floor: no threads at all."""
    while request := connection.recv(4096):
        connection.send(request[:8])


def reader_and_engine(connection: socket.socket) -> None:
    """As the generator does it: a reader thread hands over, the engine thread sends."""
    requests = _read_in_thread(connection)
    while request := requests.get():
        connection.send(request[:8])


def reader_engine_and_sender(connection: socket.socket) -> None:
    """The alternative: the engine thread hands each token to a sender thread."""
    requests = _read_in_thread(connection)
    tokens: SimpleQueue[bytes] = SimpleQueue()

    def send() -> None:
        while token := tokens.get():
            connection.send(token)

    threading.Thread(target=send, daemon=True).start()
    while request := requests.get():
        tokens.put(request[:8])


def _read_in_thread(connection: socket.socket) -> SimpleQueue[bytes]:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    requests: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        while request := connection.recv(4096):
            requests.put(request)
        requests.put(b"")

    threading.Thread(target=read, daemon=True).start()
    return requests


def round_trips_ns(serve: Serve) -> list[int]:
    """Round trips to a forked process that runs `serve`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        serve(theirs)
        os._exit(0)
    theirs.close()
    samples = []
    for _ in range(REQUESTS):
        started_ns = perf_counter_ns()
        ours.send(b"x" * 200)
        ours.recv(4096)
        samples.append(perf_counter_ns() - started_ns)
    ours.close()
    os.waitpid(child, 0)
    return samples


def print_hand_over() -> None:
    """Round trips of 200 bytes there and 8 back, by the number of threads in between."""
    for serve in (echo, reader_and_engine, reader_engine_and_sender):
        print(line(f"round trip: {serve.__name__}", [round_trips_ns(serve) for _ in range(REPEATS)]))


if __name__ == "__main__":
    print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores before we began")
    print_experiment()
    for spin_us in (0, PLAN.spin_us):
        print_legs(msgspec.structs.replace(PLAN, spin_us=spin_us))
    print_hand_over()
