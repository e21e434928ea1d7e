"""Token gaps while graphs are captured beside: the price of capture for who is being served.

Through the approach's own door, as a client meets it: a burst of prompts of lengths never seen asks for captures, then
requests of a known length are timed while the captures run. A capture waits for a pause of the engine, and after half
a second it does not wait any more, so that two kinds of load are measured: short requests one after another (a capture
starts in the pause before a request and runs beside it) and long ones (captures start within).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from firsttoken.approaches.base import Approach
from firsttoken.collector import garbage_collector_off
from firsttoken.measure.clocks import StampingSink, run_request
from firsttoken.measure.experiments import CAPTURE_TIMEOUT_S, Say, pool_counters, wait_for_captures
from firsttoken.plan import Plan, Record

BURST = 8  # captures asked for at once
ROUNDS = 2
SHORT_TOKENS, LONG_TOKENS = 24, 320

Load = Literal["short requests", "long requests"]


class GapRow(Record, frozen=True, kw_only=True):
    """Token gaps under one load, with captures beside or without; milliseconds. `beside` requests are those during
    which a capture was under way or waiting."""

    load: Load
    beside: bool
    requests: int
    gaps: int
    median_ms: float
    p99_ms: float
    max_ms: float
    captures: int  # that ended meanwhile
    capture_ms: float | None  # of one, while the engine had nothing else to do


class _Served(NamedTuple):
    gaps_ms: list[float]
    captures: int  # that ended meanwhile


def measure_capture_beside(
    approach_class: type[Approach], model_dir: Path, plan: Plan, prompts: Sequence[Sequence[int]], say: Say
) -> list[GapRow]:
    """Two rows a load. The first prompt is the one that is timed, the others, all of other lengths, are captured.

    Raises ValueError for too few prompts, or where a timed request was no hit.
    """
    steady, *fresh = prompts
    needed = 2 * ROUNDS * BURST + BURST
    if (lengths := len({len(prompt) for prompt in prompts})) < 1 + needed:
        raise ValueError(f"capture beside: prompts of {needed + 1} lengths are needed, found {lengths}")
    unseen = iter(fresh)
    loads: dict[Load, int] = {"short requests": SHORT_TOKENS, "long requests": LONG_TOKENS}
    found: dict[tuple[Load, bool], list[_Served]] = {(load, beside): [] for load in loads for beside in (False, True)}
    with approach_class() as approach, garbage_collector_off():
        approach.load(model_dir, _plan_for(plan, prompts))
        capture_ms = _capture_ms(approach, [next(unseen) for _ in range(BURST)])
        say(f"capture beside: {capture_ms:.0f} ms a capture")
        for _ in range(ROUNDS):
            for load, tokens in loads.items():
                for _ in range(LONG_TOKENS // tokens):
                    found[load, False].append(_Served(_request(approach, steady, tokens), captures=0))
                due = _ask_for_captures(approach, [next(unseen) for _ in range(BURST)])
                deadline_s = perf_counter() + CAPTURE_TIMEOUT_S
                ended = pool_counters(approach).ended
                while ended < due or not found[load, True]:
                    if perf_counter() > deadline_s:
                        raise RuntimeError(f"capture beside: captures did not end within {CAPTURE_TIMEOUT_S:.0f} s")
                    gaps_ms, earlier = _request(approach, steady, tokens), ended
                    ended = pool_counters(approach).ended
                    found[load, True].append(_Served(gaps_ms, int(ended - earlier)))
            say("capture beside: a round done")
        if pool_counters(approach).failed:
            raise ValueError("capture beside: a capture failed, so that nothing ran beside; see the generator's log")
    return [_row(load, beside, served, capture_ms if beside else None) for (load, beside), served in found.items()]


def _plan_for(plan: Plan, prompts: Sequence[Sequence[int]]) -> Plan:
    """Room for all, loading knows the first alone, and a burst never drives it out."""
    longest = max(map(len, prompts)) + 1
    context = max(plan.max_context, longest, len(prompts[0]) + LONG_TOKENS)
    capacity = max(plan.graphs.pool_capacity, BURST + 2)
    graphs = msgspec.structs.replace(plan.graphs, pool_capacity=capacity, capture_beforehand=True)
    return msgspec.structs.replace(
        plan, prompt_lengths=(len(prompts[0]),), new_tokens=SHORT_TOKENS, max_context=context, graphs=graphs
    )


def _ask_for_captures(approach: Approach, prompts: Sequence[Sequence[int]]) -> float:
    """Serve lengths never seen; returns how many captures will have ended when theirs have."""
    due = pool_counters(approach).ended + len(prompts)
    for prompt in prompts:
        _request(approach, prompt, 1, hit=False)
    return due


def _capture_ms(approach: Approach, prompts: Sequence[Sequence[int]]) -> float:
    """Of one capture, when nothing runs beside it."""
    due = _ask_for_captures(approach, prompts)
    left, started_s = due - pool_counters(approach).ended, perf_counter()
    wait_for_captures(approach, due)
    return 1e3 * (perf_counter() - started_s) / max(left, 1)


def _request(approach: Approach, prompt: Sequence[int], tokens: int, hit: bool = True) -> list[float]:
    """The gaps of one request, milliseconds."""
    sink = StampingSink(tokens)
    run_request(approach, prompt, tokens, sink)
    timings = approach.timings()
    if timings and timings[0].pool_hit is not hit:
        raise ValueError(f"capture beside: a prompt of {len(prompt)} tokens was {'no' if hit else 'a'} hit of the pool")
    gaps_ms: list[float] = (np.diff(sink.times_ns) / 1e6).tolist()
    return gaps_ms


def _row(load: Load, beside: bool, requests: list[_Served], capture_ms: float | None) -> GapRow:
    values = np.concatenate([request.gaps_ms for request in requests])
    return GapRow(
        load=load,
        beside=beside,
        requests=len(requests),
        gaps=len(values),
        median_ms=float(np.median(values)),
        p99_ms=float(np.quantile(values, 0.99)),
        max_ms=float(values.max()),
        captures=sum(request.captures for request in requests),
        capture_ms=capture_ms,
    )
