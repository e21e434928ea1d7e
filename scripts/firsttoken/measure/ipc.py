"""The price of the socket: constant tokens in one process, and behind a generator with 1, 2 and 4 clients.

Nothing is computed, so this says nothing about a model that clients share: see `clients`. Every client is a fresh
process, and all clients of a cell start together. Cells take turns over `ROUNDS`, so that a drift of the machine meets
all of them. Where the study's processes poll before they block, a second generator and its clients do, too; the first
never. With several clients, requests wait for each other in the generator's queue: the first token then includes that
wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from firsttoken.approaches.base import approach_class
from firsttoken.measure.client_processes import ClientProcesses, ClientReply, ClientTask
from firsttoken.plan import Plan, Record

Form = Literal["one_process", "two_processes", "two_processes_spin"]
Metric = Literal["first_token", "token_gap"]

TOKENS = 8  # a request
ONE_PROCESS, TWO_PROCESSES = "null", "null_2p"
ROUNDS = 3
REQUESTS = 1000  # a client and round
CLIENTS = (1, 2, 4)
WARM_UP_REQUESTS = 200  # a client


class IpcRow(Record, frozen=True, kw_only=True):
    """One row of `results/{study}/experiments/ipc.csv`; microseconds."""

    form: Form
    clients: int
    metric: Metric
    n: int
    mean_us: float
    median_us: float
    p99_us: float


def measure_ipc(plan: Plan) -> list[IpcRow]:
    """A row a form, number of clients and metric, with the plan's shortest prompt. Raises ClientsEnded."""
    length = min(plan.prompt_lengths)
    plan = msgspec.structs.replace(plan, max_context=length + TOKENS, new_tokens=TOKENS)
    alone = ClientTask(approach=ONE_PROCESS, plan=plan, prompt_ids=tuple(range(length)), warm_up=WARM_UP_REQUESTS)
    replies: dict[tuple[Form, int], list[ClientReply]] = {}
    shared_class: Any = approach_class(TWO_PROCESSES)  # it has `address` and `attach` besides the contract
    forms: tuple[tuple[Form, int], ...] = (("two_processes", 0), ("two_processes_spin", plan.spin_us))
    shared: dict[Form, ClientTask] = {}
    with ExitStack() as stack:
        for form, spin_us in forms:
            owner = stack.enter_context(shared_class())
            owner.load(Path(), msgspec.structs.replace(plan, spin_us=spin_us))
            if form == "two_processes" or owner.facts().spin_us:
                shared[form] = msgspec.structs.replace(alone, approach=TWO_PROCESSES, address=str(owner.address))
        for _ in range(ROUNDS):
            replies.setdefault(("one_process", 1), []).extend(_run_clients(alone, 1))
            for form, task in shared.items():
                for count in CLIENTS:
                    replies.setdefault((form, count), []).extend(_run_clients(task, count))
    return [row for (form, count), found in replies.items() for row in summarise(form, count, found)]


def _run_clients(task: ClientTask, count: int) -> list[ClientReply]:
    with ClientProcesses([task] * count) as clients:
        return clients.run(count, REQUESTS)


def summarise(form: Form, clients: int, replies: Sequence[ClientReply]) -> list[IpcRow]:
    """The rows of one cell, all its clients and rounds pooled."""
    metrics: dict[Metric, list[int]] = {
        "first_token": [value for reply in replies for value in reply.first_token],
        "token_gap": [value for reply in replies for value in reply.token_gap],
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
