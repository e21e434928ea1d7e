"""When a token became visible: one clock, `perf_counter_ns` (CLOCK_MONOTONIC on Linux)."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from firsttoken.approaches.base import Approach


class StampingSink:
    """The harness's `TokenSink`: stamps each push into arrays that were allocated before the request.

    A request that pushes more than `capacity` tokens is counted in full and stored up to `capacity`: the harness then
    says how many came, and an approach never sees an exception from its sink.
    """

    __slots__ = ("_capacity", "chunk_ids", "chunks", "count", "times_ns", "tokens")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.times_ns: NDArray[np.int64] = np.zeros(capacity, dtype=np.int64)
        self.tokens: NDArray[np.int64] = np.zeros(capacity, dtype=np.int64)
        self.chunk_ids: NDArray[np.int32] = np.zeros(capacity, dtype=np.int32)
        self.count = 0
        self.chunks = 0

    def reset(self) -> None:
        """Forget the last request; the arrays stay."""
        self.count = 0
        self.chunks = 0

    def push(self, token: int) -> None:
        """One token, visible now."""
        now_ns = perf_counter_ns()
        index = self.count
        if index < self._capacity:
            self.times_ns[index] = now_ns
            self.tokens[index] = token
            self.chunk_ids[index] = self.chunks
        self.count = index + 1
        self.chunks += 1

    def push_chunk(self, tokens: Sequence[int]) -> None:
        """Several tokens that became visible together: one stamp, one chunk id. An empty chunk is nothing."""
        now_ns = perf_counter_ns()
        if not tokens:
            return
        begin = self.count
        end = min(begin + len(tokens), self._capacity)
        if begin < end:
            self.times_ns[begin:end] = now_ns
            self.tokens[begin:end] = tokens[: end - begin]
            self.chunk_ids[begin:end] = self.chunks
        self.count = begin + len(tokens)
        self.chunks += 1

    def latencies_ns(self, started_ns: int) -> NDArray[np.int64]:
        """`[count]`: TTFT first, then each gap to the token before (0 within a chunk)."""
        return np.diff(self.times_ns[: min(self.count, self._capacity)], prepend=np.int64(started_ns))


class WrongTokenCount(ValueError):
    """The approach did not push exactly the tokens asked for."""


def run_request(approach: Approach, token_ids: Sequence[int], new_tokens: int, sink: StampingSink) -> int:
    """Run one request into the sink and return when it started, ns. Raises WrongTokenCount."""
    ids = list(token_ids)
    sink.reset()
    started_ns = perf_counter_ns()
    approach.generate(ids, new_tokens, sink)
    if sink.count != new_tokens:
        raise WrongTokenCount(f"pushed {sink.count} tokens, {new_tokens} were asked for ({len(ids)} prompt tokens)")
    return started_ns
