"""Lengths that steps are made for: numbers of cache positions that decode reads, and padded lengths of prompts."""

from __future__ import annotations

from firsttoken.plan import GraphOptions, Plan

SMALLEST_KV_BUCKET = 128


def kv_buckets(capacity: int, wanted: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Lengths of KV cache that decode steps read: the wanted ones, or powers of two from 128; the last is all of it."""
    if wanted:
        below = sorted({bucket for bucket in wanted if 0 < bucket < capacity})
    else:
        below = []
        bucket = SMALLEST_KV_BUCKET
        while bucket < capacity:
            below.append(bucket)
            bucket *= 2
    return (*below, capacity)


def bucket_for_position(position: int, buckets: tuple[int, ...]) -> int:
    """The smallest bucket that holds `position` (0-based): a step at position 127 still fits a bucket of 128."""
    for bucket in buckets:
        if position < bucket:
            return bucket
    raise ValueError(f"position {position} does not fit the KV cache of {buckets[-1]} positions")


def buckets_in_use(plan: Plan) -> list[int]:
    """Of `kv_buckets`, those that the plan's requests reach, and the largest, which serves all others."""
    buckets = kv_buckets(plan.max_context, plan.graphs.kv_buckets)
    positions = {p for n in plan.prompt_lengths for p in range(n + 1, n + plan.new_tokens)}
    reached = {next(size for size in buckets if size >= count) for count in positions if count <= plan.max_context}
    return sorted(reached | {buckets[-1]})


def prefill_lengths(plan: Plan) -> list[int]:
    """Padded prompt lengths that are captured: the plan's, or the buckets that hold them, as many as the pool may."""
    if not plan.graphs.capture_beforehand:
        return []
    wanted = sorted({padded_length(plan.graphs, n, plan.max_context) for n in plan.prompt_lengths})
    return wanted[: plan.graphs.pool_capacity]


def padded_length(options: GraphOptions, length: int, max_context: int) -> int:
    """`length` itself, or the next bucket above it where there are buckets."""
    fitting = [size for size in options.prefill_buckets if length <= size <= max_context]
    return min(fitting, default=length)
