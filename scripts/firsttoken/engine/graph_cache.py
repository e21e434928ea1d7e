"""All steps of one engine, as graphs where they are wanted: decode by position, prefill by prompt length."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from firsttoken.engine.backend import Backend
from firsttoken.engine.buckets import bucket_for_position, kv_buckets, padded_length
from firsttoken.engine.capture_worker import CaptureWorker
from firsttoken.engine.graphs import EagerStep, StepGraph
from firsttoken.engine.rolling_pool import RollingGraphPool
from firsttoken.plan import Plan, Unsupported
from firsttoken.transient import is_transient

if TYPE_CHECKING:
    from firsttoken.engine.loop import Steps


class GraphCache:
    """Decode graphs are captured at once, one a KV bucket, and stay; prefill graphs come and go in the rolling pool."""

    def __init__(self, steps: Steps, backend: Backend, worker: CaptureWorker, plan: Plan, replays: bool) -> None:
        """`replays` False: every step runs eagerly, and the pool stays empty. Raises Unsupported where a step that the
        plan needs cannot be captured."""
        self._steps, self._backend, self._worker = steps, backend, worker
        self.replays = replays
        self._ran_eagerly: set[int] = set()  # padded lengths; written by the engine's thread, read by the capture's
        options = plan.graphs
        self._padded = partial(padded_length, options, max_context=plan.max_context)
        buckets = kv_buckets(steps.capacity, options.kv_buckets)
        by_bucket = {bucket: self._decode_step(bucket) for bucket in buckets}
        self.decode_steps = tuple(by_bucket.values())
        # By position, so that the engine's loop finds a step by one index.
        self.decode_at = [by_bucket[bucket_for_position(at, buckets)] for at in range(plan.max_context)]
        self.pool = RollingGraphPool(
            self._capture_prefill, worker.later, options.pool_capacity, options.pool_max_bytes, options.rolling,
            lambda: backend.shared_graph_bytes,
        )  # fmt: skip
        self._acquired: int | None = None
        if replays and options.capture_beforehand:
            for key in dict.fromkeys(self._padded(length) for length in plan.prompt_lengths):
                worker.run(partial(self.pool.fill, key, _is_no_verdict))
            for length, reason in self.pool.failures.items():  # never silently eager
                raise Unsupported(f"its prefill of {length} tokens cannot be captured: {reason}")
        self.reset_counters()

    def acquire_prefill(self, length: int) -> tuple[Callable[[], None], int, bool | None]:
        """A prompt's step until `release`, its padded length, and whether the pool had it (None without graphs)."""
        key = self._padded(length)
        graph = self.pool.acquire(key) if self.replays else None
        if graph is None:
            step = self._steps.prefill(key)

            def run() -> None:
                step()
                self._ran_eagerly.add(key)

            return run, key, False if self.replays else None
        self._acquired = key
        return graph.replay, key, True

    def release(self) -> None:
        """The request is over and nothing of it is in flight; nothing happens when nothing is acquired."""
        if self._acquired is not None:
            self.pool.release(self._acquired)
            self._acquired = None

    @property
    def bytes(self) -> int:
        """Device memory of all graphs, and of what they share."""
        return self.pool.bytes + sum(step.bytes for step in self.decode_steps)

    def reset_counters(self) -> None:
        """Count hits and misses from now on."""
        self._before = self.pool.hits, self.pool.misses

    def counters(self) -> dict[str, float]:
        """Those of `base.Engine.counters` that graphs have."""
        return {
            "prefill_hits": self.pool.hits - self._before[0],
            "prefill_misses": self.pool.misses - self._before[1],
            "captures": self.pool.captures,
            "evictions": self.pool.evictions,
            "failed_captures": self.pool.failed_captures,
        }

    def close(self) -> None:
        """Free all graphs; idempotent. No replay may be in flight, and the capture thread must have ended."""
        self.pool.close()
        for step in self.decode_steps:
            step.close()

    def _decode_step(self, bucket: int) -> StepGraph:
        live = self._steps.decode(bucket)
        if not self.replays:
            return EagerStep(live)
        warm_up = self._steps.decode(bucket, scratch=True)
        try:
            return self._worker.run(lambda: self._backend.make_step(live, warm_up))
        except RuntimeError as error:
            if _is_no_verdict(error):
                raise
            raise Unsupported(f"its decode step cannot be captured: {str(error).partition(chr(10))[0]}") from error

    def _capture_prefill(self, key: int) -> StepGraph:
        live = self._steps.prefill(key)
        warm_up = None if key in self._ran_eagerly else self._steps.prefill(key, scratch=True)
        return self._backend.make_step(live, warm_up)


def _is_no_verdict(error: Exception) -> bool:
    """Whether a capture's failure says nothing of the step: memory was short, the system or another process failed."""
    return isinstance(error, torch.OutOfMemoryError) or is_transient(error)
