"""Two experiments on the rolling pool: memory over ever more prompt lengths, and the price of a length never seen.

A third, token gaps with capture beside, is in `capture_beside`. Each loads the approach anew for each mode. Best with
an approach in two processes: its generator ends with each mode, so that the next one starts with nothing allocated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

import msgspec

from firsttoken.approaches.base import Approach
from firsttoken.collector import garbage_collector_off
from firsttoken.measure.clocks import StampingSink, run_request
from firsttoken.measure.sampler import ProcessTree
from firsttoken.plan import EXPERIMENT_TOKENS, Plan, Record

CAPTURE_TIMEOUT_S = 60.0
POLL_S = 0.01
REQUESTS_AFTERWARDS = 5

Kind = Literal["miss", "after_capture", "beforehand"]
Mode = Literal["rolling", "unbounded"]
Say = Callable[[str], None]


class PoolMemoryRow(Record, frozen=True, kw_only=True):
    """What is held after one more prompt length; figures of the device are None on a CPU.

    `device_used` is the driver's figure for the whole device, now: with what it keeps of each graph, of which the
    allocator knows nothing. `reserved` and `allocated` are the allocator's peaks since loading.
    """

    mode: Mode
    step: int  # prompt lengths served so far
    prompt_length: int
    device_used_bytes: int | None
    device_reserved_bytes: int | None
    device_allocated_bytes: int | None
    graph_bytes: int | None
    host_bytes: int  # of the process tree, now
    captures: int
    evictions: int
    failed_captures: int


class PoolMissRow(Record, frozen=True, kw_only=True):
    """One request. `miss`: the first of its length; `after_capture`: later, once the background capture is done;
    `beforehand`: with the length captured while loading. `pool_hit` is the approach's own word."""

    kind: Kind
    prompt_length: int
    request: int
    ttft_ms: float
    pool_hit: bool | None


def measure_pool_memory(
    approach_class: type[Approach],
    model_dir: Path,
    plan: Plan,
    prompts: Sequence[Sequence[int]],
    say: Say,
    used_bytes: Callable[[], int | None],
) -> list[PoolMemoryRow]:
    """Serve one prompt after another, each of another length, with a pool that rolls and one that never evicts.

    `used_bytes()` asks the driver, see `hardware.device_memory`.

    At each length the first request misses and asks for a capture; after the capture a second one replays it. Raises
    ValueError where the pool would hold all lengths, or two prompts have the same one.
    """
    _check_lengths(prompts)
    if len(prompts) <= plan.graphs.pool_capacity:
        raise ValueError(
            f"pool_memory: {len(prompts)} prompt lengths, but graphs.pool_capacity {plan.graphs.pool_capacity} holds "
            "them all; give more lengths"
        )
    rows: list[PoolMemoryRow] = []
    plan = msgspec.structs.replace(plan, new_tokens=EXPERIMENT_TOKENS["pool_memory"])
    modes: tuple[Mode, ...] = ("rolling", "unbounded")
    for mode in modes:
        mode_plan = _plan_for(plan, prompts, prompts[:1], capture_beforehand=False, rolling=mode == "rolling")
        with approach_class() as approach, garbage_collector_off():
            approach.load(model_dir, mode_plan)
            tree = ProcessTree(os.getpid())
            for step, prompt in enumerate(prompts, 1):
                failed = pool_counters(approach).failed
                _serve_until_captured(approach, prompt, plan.new_tokens)
                if pool_counters(approach).failed == failed:  # else a second miss would ask for another capture
                    _serve("after_capture", approach, prompt, plan.new_tokens)
                memory, pool = approach.memory(), pool_counters(approach)
                row = PoolMemoryRow(
                    mode=mode,
                    step=step,
                    prompt_length=len(prompt),
                    device_used_bytes=used_bytes(),
                    device_reserved_bytes=memory.device_reserved_bytes,
                    device_allocated_bytes=memory.device_allocated_bytes,
                    graph_bytes=memory.graph_bytes,
                    host_bytes=tree.host_bytes(),
                    captures=int(pool.ended - pool.failed),
                    evictions=int(pool.evictions),
                    failed_captures=int(pool.failed),
                )
                rows.append(row)
                say(f"pool memory, {mode}: {step}/{len(prompts)} prompt lengths")
    return rows


def measure_pool_misses(
    approach_class: type[Approach], model_dir: Path, plan: Plan, prompts: Sequence[Sequence[int]], say: Say
) -> list[PoolMissRow]:
    """TTFT at lengths that loading did not know, against the same lengths captured while loading.

    The first prompt warms the process and has no rows; the others are served once, awaited, and served again.
    """
    _check_lengths(prompts)
    warm, *measured = prompts
    rows: list[PoolMissRow] = []
    with approach_class() as approach, garbage_collector_off():
        approach.load(model_dir, _plan_for(plan, prompts, [warm], capture_beforehand=True))
        _serve_again("beforehand", approach, warm, plan.new_tokens)
        for prompt in measured:
            rows.append(_serve_until_captured(approach, prompt, plan.new_tokens))
            rows += _serve_again("after_capture", approach, prompt, plan.new_tokens, 1)
            say(f"pool misses: {len(prompt)} tokens, not captured beforehand")
    with approach_class() as approach, garbage_collector_off():
        approach.load(model_dir, _plan_for(plan, prompts, prompts, capture_beforehand=True))
        _serve_again("beforehand", approach, warm, plan.new_tokens)
        for prompt in measured:
            rows += _serve_again("beforehand", approach, prompt, plan.new_tokens)
            say(f"pool misses: {len(prompt)} tokens, captured beforehand")
    return rows


def _check_lengths(prompts: Sequence[Sequence[int]]) -> None:
    lengths = [len(prompt) for prompt in prompts]
    if len(lengths) < 2 or len(set(lengths)) != len(lengths):
        raise ValueError(f"experiment: at least two prompts, each of another length, are needed; found {lengths}")


def _plan_for(plan: Plan, served: Sequence[Sequence[int]], known: Sequence[Sequence[int]], **options: bool) -> Plan:
    """The plan with room for all that is served, where loading knows only some lengths; the pool holds those."""
    capacity = max(plan.graphs.pool_capacity, len(known))
    graphs = msgspec.structs.replace(plan.graphs, pool_capacity=capacity, **options)
    longest = max(map(len, served)) + plan.new_tokens
    return msgspec.structs.replace(
        plan, prompt_lengths=tuple(map(len, known)), max_context=max(plan.max_context, longest), graphs=graphs
    )


def _serve(kind: Kind, approach: Approach, prompt: Sequence[int], new_tokens: int, request: int = 0) -> PoolMissRow:
    sink = StampingSink(new_tokens)
    started_ns = run_request(approach, prompt, new_tokens, sink)
    timings = approach.timings()
    return PoolMissRow(
        kind=kind,
        prompt_length=len(prompt),
        request=request,
        ttft_ms=(int(sink.times_ns[0]) - started_ns) / 1e6,
        pool_hit=timings[0].pool_hit if timings else None,
    )


def _serve_again(
    kind: Kind, approach: Approach, prompt: Sequence[int], new_tokens: int, first: int = 0
) -> list[PoolMissRow]:
    requests = range(first, first + REQUESTS_AFTERWARDS)
    return [_serve(kind, approach, prompt, new_tokens, request) for request in requests]


def _serve_until_captured(approach: Approach, prompt: Sequence[int], new_tokens: int) -> PoolMissRow:
    """The first request of a length, and then the wait until its capture has succeeded or failed.

    Where its bucket is in the pool already, it is no miss.
    """
    before = pool_counters(approach)
    row = _serve("miss", approach, prompt, new_tokens)
    if pool_counters(approach).misses == before.misses:
        return msgspec.structs.replace(row, kind="after_capture")
    wait_for_captures(approach, before.ended + 1)
    return row


def wait_for_captures(approach: Approach, ended: float) -> None:
    """Wait until so many captures have succeeded or failed. Raises RuntimeError when they do not in time."""
    deadline_s = perf_counter() + CAPTURE_TIMEOUT_S
    while pool_counters(approach).ended < ended:
        if perf_counter() > deadline_s:
            raise RuntimeError(f"the captures that were asked for did not end within {CAPTURE_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)


class PoolCounters(NamedTuple):
    misses: float
    ended: float  # captures, successful or not
    evictions: float
    failed: float


def pool_counters(approach: Approach) -> PoolCounters:
    """Raises ValueError for an approach without a pool of graphs."""
    found = approach.counters()
    try:
        captures, failed, misses = found["captures"], found["failed_captures"], found["prefill_misses"]
        return PoolCounters(misses, captures + failed, found["evictions"], failed)
    except KeyError as error:
        raise ValueError(f"experiment: the approach has no pool of graphs; no counter {error}") from error
