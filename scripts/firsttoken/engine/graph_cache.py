"""All steps of one engine: decode by position, prefill by prompt length; as graphs where they are wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from firsttoken.engine.backend import Backend
from firsttoken.engine.buckets import bucket_for_position, kv_buckets, padded_length
from firsttoken.engine.capture_worker import CaptureWorker
from firsttoken.engine.graphs import EagerStep, StepGraph
from firsttoken.engine.rolling_pool import RollingGraphPool
from firsttoken.hf.kv_cache import KVStorage
from firsttoken.hf.masks import MaskPlan
from firsttoken.hf.native_ops import StepState
from firsttoken.hf.steps import ModelSteps, scratch_state
from firsttoken.plan import Plan, Unsupported


class GraphCache:
    """Decode steps are made at once, one a KV bucket, and stay; prefill steps come and go in the rolling pool."""

    def __init__(
        self,
        steps: ModelSteps,
        state: StepState,
        storage: KVStorage,
        masks: MaskPlan,
        form: Backend,
        worker: CaptureWorker,
        plan: Plan,
        graphs: bool,
    ) -> None:
        """`graphs` False: every step runs eagerly, and the pool stays empty."""
        self._steps, self._state, self._storage, self._form, self._worker = steps, state, storage, form, worker
        self.graphs = graphs
        self._ran_eagerly: set[int] = set()  # padded lengths; written by the engine's thread, read by the capture's
        self._scratch = scratch_state(state, masks), storage.scratch()
        options = plan.graphs
        self._padded = partial(padded_length, options, max_context=plan.max_context)
        buckets = kv_buckets(storage.capacity, options.kv_buckets)
        by_bucket = {bucket: self._decode_step(bucket) for bucket in buckets}
        self.decode_steps = tuple(by_bucket.values())
        # By position, so that the engine's loop finds a step by one index.
        self.decode_at = [by_bucket[bucket_for_position(at, buckets)] for at in range(plan.max_context)]
        self.pool = RollingGraphPool(
            self._capture_prefill, worker.later, options.pool_capacity, options.pool_max_bytes, options.rolling,
            lambda: form.shared_graph_bytes,
        )  # fmt: skip
        self._leased: int | None = None
        if graphs and options.capture_beforehand:
            for key in dict.fromkeys(self._padded(length) for length in plan.prompt_lengths):
                worker.run(partial(self.pool.fill, key))

    def borrow_prefill(self, length: int) -> tuple[Callable[[], None], bool | None]:
        """The step for a prompt, and whether it came from the pool (None without graphs). `give_back` ends the loan."""
        key = self._padded(length)
        graph = self.pool.acquire(key) if self.graphs else None
        if graph is None:
            step = self._steps.prefill(self._state, self._storage, key)

            def run() -> None:
                step()
                self._ran_eagerly.add(key)

            return run, False if self.graphs else None
        self._leased = key
        return graph.replay, True

    def give_back(self) -> None:
        """The request is over and nothing of it is in flight; nothing happens when nothing is on loan."""
        if self._leased is not None:
            self.pool.release(self._leased)
            self._leased = None

    @property
    def bytes(self) -> int:
        """Device memory of all graphs, and of what they share."""
        return self.pool.bytes + sum(step.bytes for step in self.decode_steps)

    def close(self) -> None:
        """Free all graphs; idempotent. No replay may be in flight, and the capture thread must have ended."""
        self.pool.close()
        for step in self.decode_steps:
            step.close()

    def _decode_step(self, bucket: int) -> StepGraph:
        live = self._steps.decode(self._state, self._storage, bucket)
        if not self.graphs:
            return EagerStep(live)
        rehearsal = self._steps.decode(*self._scratch, bucket)
        try:
            return self._worker.run(lambda: self._form.make_step(live, rehearsal))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            name, reason = type(self._steps.model).__name__, str(error).partition("\n")[0]
            raise Unsupported(f"{name}: its decode step cannot be captured: {reason}") from error

    def _capture_prefill(self, key: int) -> StepGraph:
        live = self._steps.prefill(self._state, self._storage, key)
        rehearsal = None if key in self._ran_eagerly else self._steps.prefill(*self._scratch, key)
        return self._form.make_step(live, rehearsal)
