"""Lengths that steps are made for: numbers of cache positions that decode reads, and padded lengths of prompts."""

from __future__ import annotations

from firsttoken.plan import GraphOptions

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


def padded_length(options: GraphOptions, length: int, max_context: int) -> int:
    """`length` itself, or the next bucket above it where there are buckets."""
    fitting = [size for size in options.prefill_buckets if length <= size <= max_context]
    return min(fitting, default=length)
