"""Several clients of one model: they share the queue of one generator process, or each has a copy of the model.

The copies are the same loop without the second process. Each is a process of its own, with its own CUDA context and
weights; copies and generator are loaded once, and stay loaded while the cells take turns over `ROUNDS`. A first token
includes the wait for the requests of others: in the generator's queue, or for the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from firsttoken.approaches.base import approach_class
from firsttoken.measure.client_processes import ClientProcesses, ClientsEnded, ClientTask
from firsttoken.plan import EXPERIMENT_TOKENS, Plan, Record

Arrangement = Literal["shared_queue", "copies"]

SHARED, COPY = "jit_cuda", "jit_cuda_1p_ahead"
CLIENTS = (1, 2, 4)
ROUNDS = 5  # the fewest that allow an interval
REQUESTS = 24  # of all clients of a cell in a round
TOKENS = EXPERIMENT_TOKENS["clients"]
WARM_UP_REQUESTS = 3  # a client
GIB = 2**30


class ClientsRow(Record, frozen=True, kw_only=True):
    """One row of `results/{study}/experiments/clients.csv`: the clients of one cell in one round, all together."""

    arrangement: Arrangement
    approach: str
    clients: int
    round: int  # from 1
    requests: int = 0
    # From the first client's start to the last one's end. This and the next two: None with a reason.
    duration_s: float | None = None
    ttft_mean_ms: float | None = None
    ttft_median_ms: float | None = None
    reason: str  # why there are no figures


def measure_clients(
    model_dir: Path,
    plan: Plan,
    prompt: Sequence[int],
    say: Callable[[str], None],
    free_bytes: Callable[[], int | None],
) -> list[ClientsRow]:
    """A row an arrangement, number of clients and round; all requests have the same prompt.

    `free_bytes()` is the free memory of the device, None on a CPU. Copies that do not fit into it, or that would have
    to share the cores of a CPU, are not started.
    """
    plan = msgspec.structs.replace(
        plan, prompt_lengths=(len(prompt),), new_tokens=TOKENS, max_context=len(prompt) + TOKENS
    )
    copy = ClientTask(
        approach=COPY, model_dir=str(model_dir), plan=plan, prompt_ids=tuple(prompt), warm_up=WARM_UP_REQUESTS
    )
    shared_class: Any = approach_class(SHARED)  # it has `address` and `attach` besides the contract
    with shared_class() as owner:
        before = free_bytes()
        owner.load(model_dir, plan)
        fitting, why_no_more = copies_that_fit(before, free_bytes(), plan.threads)
        say(f"clients: the generator is loaded; loading {fitting} copies")
        client = msgspec.structs.replace(copy, approach=SHARED, address=str(owner.address))
        with ClientProcesses([client] * max(CLIENTS)) as sharing, ClientProcesses([copy] * fitting) as copies:
            rows = []
            for round_ in range(1, ROUNDS + 1):
                for count in CLIENTS:
                    rows.append(_measure(sharing, "shared_queue", SHARED, count, round_))
                    rows.append(_measure(copies, "copies", COPY, count, round_, why_no_more if count > fitting else ""))
                say(f"clients: round {round_}/{ROUNDS}")
    return rows


def copies_that_fit(before: int | None, after: int | None, threads: int) -> tuple[int, str]:
    """How many copies to start, and why no more; free device memory before and after the generator was loaded, bytes.

    A copy takes what the generator takes.
    """
    if before is None or after is None:
        cores = len(os.sched_getaffinity(0))
        fitting = min(max(CLIENTS), max(1, cores // threads))
        return fitting, f"{fitting} copies fit on the CPU: {cores} cores, each takes {threads}"
    each = max(before - after, 1)
    fitting = min(max(CLIENTS), after // each)
    return fitting, (
        f"{fitting} copies fit beside the generator: each takes {each / GIB:.1f} GiB of device memory, "
        f"{after / GIB:.1f} GiB are free"
    )


def _measure(
    clients: ClientProcesses, arrangement: Arrangement, approach: str, count: int, round_: int, reason: str = ""
) -> ClientsRow:
    """One cell in one round; with a `reason` it is not run."""
    row = ClientsRow(arrangement=arrangement, approach=approach, clients=count, round=round_, reason=reason)
    if reason:
        return row
    try:
        replies = clients.run(count, REQUESTS // count)
    except ClientsEnded as error:
        return msgspec.structs.replace(row, reason=str(error))
    ttft_ms = np.array([value for reply in replies for value in reply.first_token]) / 1e6
    started_ns, ended_ns = min(reply.started_ns for reply in replies), max(reply.ended_ns for reply in replies)
    return msgspec.structs.replace(
        row,
        requests=len(ttft_ms),
        duration_s=(ended_ns - started_ns) / 1e9,
        ttft_mean_ms=float(ttft_ms.mean()),
        ttft_median_ms=float(np.median(ttft_ms)),
    )
