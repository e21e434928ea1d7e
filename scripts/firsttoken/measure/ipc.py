"""The price of two processes: the approach that does nothing, alone and behind a generator with 1, 2 and 4 clients.

Every client is a fresh process of this module, so that no two share an interpreter, and all clients of a cell start
together. Cells take turns over `ROUNDS`, so that a drift of the machine meets all of them. With several clients,
requests wait for each other in the generator's queue: the first token then includes that wait.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Literal

import msgspec
import numpy as np

from firsttoken.approaches.base import Approach, approach_class
from firsttoken.measure.clocks import StampingSink, run_request
from firsttoken.plan import Plan, Record
from firsttoken.process import package_environment

Form = Literal["one_process", "two_processes"]
Metric = Literal["first_token", "token_gap"]

TOKENS = 8  # a request
ONE_PROCESS, TWO_PROCESSES = "null", "null_2p"
ROUNDS = 3
REQUESTS = 1000  # a client and round
CLIENTS = (1, 2, 4)
WARM_UP_REQUESTS = 200  # a client; the first ones fault in pages and fill caches


class IpcRow(Record, frozen=True, kw_only=True):
    """One row of `results/{study}/experiments/ipc.csv`; microseconds."""

    form: Form
    clients: int
    metric: Metric
    n: int
    mean_us: float
    median_us: float
    p99_us: float


class ClientTask(Record, frozen=True, kw_only=True):
    """What one client process is to do; `address` "" means: load the approach yourself."""

    approach: str
    address: str
    plan: Plan
    prompt_ids: tuple[int, ...]
    requests: int


class ClientSamples(Record, frozen=True, kw_only=True):
    """What one client process saw, nanoseconds: one first token a request, `TOKENS - 1` gaps a request."""

    first_token: list[int]
    token_gap: list[int]


def measure_ipc(plan: Plan) -> list[IpcRow]:
    """A row a form, number of clients and metric, with the plan's shortest prompt."""
    length = min(plan.prompt_lengths)
    plan = msgspec.structs.replace(plan, max_context=length + TOKENS)
    alone = ClientTask(approach=ONE_PROCESS, address="", plan=plan, prompt_ids=tuple(range(length)), requests=REQUESTS)
    samples: dict[tuple[Form, int], list[ClientSamples]] = {}
    shared_class: Any = approach_class(TWO_PROCESSES)  # it has `address` and `attach` besides the contract
    with shared_class() as owner:
        owner.load(Path(), plan)
        shared = msgspec.structs.replace(alone, approach=TWO_PROCESSES, address=str(owner.address))
        for _ in range(ROUNDS):
            samples.setdefault(("one_process", 1), []).extend(_run_clients(alone, 1))
            for count in CLIENTS:
                samples.setdefault(("two_processes", count), []).extend(_run_clients(shared, count))
    return [row for (form, count), found in samples.items() for row in summarise(form, count, found)]


def summarise(form: Form, clients: int, samples: Sequence[ClientSamples]) -> list[IpcRow]:
    """The rows of one cell, all its clients and rounds pooled."""
    metrics: dict[Metric, list[int]] = {
        "first_token": [value for client in samples for value in client.first_token],
        "token_gap": [value for client in samples for value in client.token_gap],
    }
    return [
        IpcRow(
            form=form,
            clients=clients,
            metric=metric,
            n=len(values),
            mean_us=float(np.mean(values)) / 1e3,
            median_us=float(np.median(values)) / 1e3,
            p99_us=float(np.quantile(values, 0.99)) / 1e3,
        )
        for metric, values in metrics.items()
    ]


def _run_clients(task: ClientTask, count: int) -> list[ClientSamples]:
    """Start `count` client processes, let them go at once when all are warm, and collect what they saw."""
    command = [sys.executable, "-P", "-m", "firsttoken.measure.ipc"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, env=package_environment()))
            for _ in range(count)
        ]
        try:
            for process in processes:
                _tell(process, msgspec.json.encode(task))
            for process in processes:
                _hear(process)
            for process in processes:
                _tell(process, b"go")
            return [msgspec.json.decode(_hear(process), type=ClientSamples) for process in processes]
        except BaseException:
            for process in processes:
                process.kill()  # ExitStack waits for each
            raise


def _tell(process: Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line + b"\n")
    process.stdin.flush()


def _hear(process: Popen[bytes]) -> bytes:
    """The client's next line. Raises RuntimeError if it ended instead; its traceback is on stderr."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a client of the IPC experiment ended with exit code {process.wait()}; see its stderr")
    return line


# ---------------------------------------------------------------- the client process


def serve_task() -> None:
    """Task from stdin, `ready` to stdout, wait for `go`, samples to stdout."""
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=ClientTask)
    with _open_approach(task) as approach:
        _measure(approach, task, WARM_UP_REQUESTS)
        print("ready", flush=True)
        if not sys.stdin.buffer.readline():
            return  # whoever started us is gone
        gc.collect()
        gc.freeze()
        gc.disable()
        samples = _measure(approach, task, task.requests)
    print(msgspec.json.encode(samples).decode(), flush=True)


def _open_approach(task: ClientTask) -> Approach:
    kind: Any = approach_class(task.approach)
    approach: Approach = kind.attach(Path(task.address)) if task.address else kind()
    if not task.address:
        approach.load(Path(), task.plan)
    return approach


def _measure(approach: Approach, task: ClientTask, requests: int) -> ClientSamples:
    samples, sink = ClientSamples(first_token=[], token_gap=[]), StampingSink(TOKENS)
    for _ in range(requests):
        started_ns = run_request(approach, task.prompt_ids, TOKENS, sink)
        first_ns, *gaps_ns = sink.latencies_ns(started_ns).tolist()
        samples.first_token.append(first_ns)
        samples.token_gap.extend(gaps_ns)
    return samples


if __name__ == "__main__":
    serve_task()
