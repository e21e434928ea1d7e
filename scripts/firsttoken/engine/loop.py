"""The one loop that runs a request: prefill, decode steps, and the tokens on their way to the host.

What a step computes comes from `hf.steps` or `compiled.steps`; whether it is replayed from a graph is up to
`graph_cache`.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import torch

from firsttoken.engine.backend import Backend
from firsttoken.engine.base import EngineSpec, never
from firsttoken.engine.capture_worker import CaptureWorker
from firsttoken.engine.compilation import compile_count
from firsttoken.engine.graph_cache import GraphCache
from firsttoken.engine.logits import save_logits_file
from firsttoken.engine.state import StepState
from firsttoken.plan import check_fits
from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming

WARM_UP_CAPTURES_S = 60.0
WARM_UP_TOKENS = 4  # of each warm-up request: a prefill, and decode steps that are queued ahead


class Steps(Protocol):
    """A model made into steps over a `StepState`."""

    capacity: int  # positions of the KV cache

    @property
    def state(self) -> StepState: ...

    @property
    def advance(self) -> Callable[[], None] | None:
        """The dynamic operations after each step, or None where they are part of it; known once compiled."""

    def compile(self) -> None:
        """Compile and tune, before any step is captured."""

    def begin(self, prompt_ids: Sequence[int], padded_length: int) -> None:
        """Stage a prompt, and queue the dynamic operations that come before its prefill."""

    def prefill(self, padded_length: int, scratch: bool = False) -> Callable[[], None]:
        """The step from a staged prompt to `state.logits`. `scratch`: over buffers that no request uses."""

    def decode(self, bucket: int, scratch: bool = False) -> Callable[[], None]:
        """The step from `state.token` at `state.position` to `state.logits`, over `bucket` positions of the cache."""

    def reseed(self, seed: int) -> None:
        """Start the random stream of sampling anew."""

    def facts(self) -> Facts:
        """How it computes; `ahead` and `grad_mode` are the engine's to fill."""


class LoopEngine:
    """One model on one device. See `base.Engine`."""

    def __init__(
        self, spec: EngineSpec, backend: Backend, load_steps: Callable[[EngineSpec, torch.device], Steps],
        imports_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`load_steps` loads the model; `imports_s` is what the caller's imports for it took."""
        self.plan, self.backend = spec.plan, backend
        self._closed = False
        self.prefills = self.decode_steps = 0
        self.worker = CaptureWorker()
        self.graphs: GraphCache | None = None
        backend.start_peaks()
        started_s = time.perf_counter()
        try:
            self.steps = load_steps(spec, backend.device)
            self.ring = backend.ring(self.steps.state.token)
            self._clock = backend.clock(self.plan.max_context + 1)
            self.ahead = spec.ahead if self.ring.asynchronous else 0
            loaded_s = self._settle()
            with torch.inference_mode(), backend.stream():
                self.steps.compile()
            compiled_s = self._settle()
            self.graphs = GraphCache(self.steps, backend, self.worker, self.plan, spec.forward != "eager")
            captured_s = self._settle()
            self._request = _Request(self.plan.max_context)
            self._warm_up()
            warm_s = self._settle()
        except BaseException:
            self.close()
            raise
        self.setup = SetupTimes(
            imports_s=imports_s,
            load_s=loaded_s - started_s,
            compile_s=compiled_s - loaded_s,
            capture_s=captured_s - compiled_s,
            warm_up_s=warm_s - captured_s,
        )

    def _settle(self) -> float:
        self.backend.settle()
        return time.perf_counter()

    def _warm_up(self) -> None:
        """Every prompt length through the whole loop; then the random stream and the counters start anew."""
        for length in self.plan.prompt_lengths:
            for _ in range(2):
                self.generate([0] * length, min(self.plan.new_tokens, WARM_UP_TOKENS), lambda token: None)
        self.worker.drain(WARM_UP_CAPTURES_S)  # more lengths than the pool holds: these requests asked for captures
        self.reseed(self.plan.seed)
        self._compiled_before = compile_count()
        self._graphs.reset_counters()
        self.prefills = self.decode_steps = 0

    # ------------------------------------------------------------ a request

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        emit: Callable[[int], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """See `base.Engine`. Up to `ahead` decode steps are queued before a token is read, so that the device does not
        wait for the host."""
        length = len(prompt_ids)
        check_fits(length, max_new_tokens, self.plan.max_context)
        self.worker.engine_busy()
        receive = self.ring.receive
        try:
            with torch.inference_mode(), self.backend.stream():
                replayed = self._prefill(prompt_ids)
                queued = 1
                for index in range(max_new_tokens):
                    # After a prefill that ran eagerly the host is late, not the device: read its token at once.
                    ahead = self.ahead if replayed or index else 0
                    while queued < min(max_new_tokens, index + 1 + ahead):
                        self._decode(queued, length + queued - 1)
                        queued += 1
                    emit(receive(index))
                    self._request.tokens = index + 1
                    if cancelled():
                        break
        finally:
            self._finish()

    def _prefill(self, prompt_ids: Sequence[int]) -> bool:
        """Queue everything up to the first token; returns whether the prefill was replayed."""
        request, clock, now_ns = self._request, self._clock, time.perf_counter_ns
        request.tokens = 0
        started_ns = now_ns()
        prefill, padded_length, request.hit = self._graphs.acquire_prefill(len(prompt_ids))
        found_ns = now_ns()
        queues = self.steps.advance is not None  # operations before the prefill, which are timed
        if queues:
            clock.mark(0, 0)
        self.steps.begin(prompt_ids, padded_length)
        if queues:
            clock.mark(0, 1)
        request.begin_ns = now_ns() - found_ns
        self._queue(0, prefill, found_ns - started_ns)
        self.prefills += 1
        return bool(request.hit)

    def _decode(self, index: int, position: int) -> None:
        """Queue the step that reads the token at `position` and chooses token `index` of the request."""
        started_ns = time.perf_counter_ns()
        replay = self._graphs.decode_at[position].replay
        self._queue(index, replay, time.perf_counter_ns() - started_ns)

    def _queue(self, index: int, step: Callable[[], None], lookup_ns: int) -> None:
        """Queue the step that chooses token `index`, the dynamic operations after it, and the copy of the token."""
        clock, advance = self._clock, self.steps.advance
        clock.mark(index + 1, 0)
        started_ns = time.perf_counter_ns()
        step()
        launched_ns = time.perf_counter_ns()
        clock.mark(index + 1, 1)
        if advance is not None:
            advance()
            clock.mark(index + 1, 2)
        self.ring.send(index)
        self._request.lookup_ns[index], self._request.launch_ns[index] = lookup_ns, launched_ns - started_ns

    def _finish(self) -> None:
        """After a request, however it ended: nothing is in flight, nothing unread, no graph acquired."""
        self.backend.synchronize()
        self.ring.discard()
        self.decode_steps += max(self._request.tokens - 1, 0)
        self._graphs.release()
        self.worker.engine_idle()

    @property
    def _graphs(self) -> GraphCache:
        assert self.graphs is not None
        return self.graphs

    def reseed(self, seed: int) -> None:
        """Start the random stream of sampling anew."""
        with self.backend.stream():
            self.steps.reseed(seed)

    # ------------------------------------------------------------ after a request

    def timings(self) -> Sequence[TokenTiming]:
        """See `base.Engine`. `launch_ns` is None on a CPU, where the step runs within its launch."""
        request = self._request
        return [self._timing(request, index) for index in range(request.tokens)]

    def _timing(self, request: _Request, index: int) -> TokenTiming:
        sampling_ns: int | None
        if self.steps.advance is not None:
            device_ns, sampling_ns = self._clock.spans_ns(index + 1)
            sampling_ns += self._clock.step_ns(0) if index == 0 else 0
        else:  # within the step, but for the prompt's staging on the host
            device_ns, sampling_ns = self._clock.step_ns(index + 1), request.begin_ns if index == 0 else None
        return TokenTiming(
            device_ns=device_ns,
            sampling_ns=sampling_ns,
            lookup_ns=request.lookup_ns[index],
            launch_ns=request.launch_ns[index] if self.ring.asynchronous else None,
            pool_hit=request.hit if index == 0 else None,
        )

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        """Teacher-forced through this engine's own prefill and decode steps, one token at a time."""
        length, state = len(prompt_ids), self.steps.state
        check_fits(length, len(continuation_ids), self.plan.max_context)
        state.check(continuation_ids)
        rows: list[torch.Tensor] = []
        self.worker.engine_busy()
        try:
            with torch.inference_mode(), self.backend.stream():
                self._prefill(prompt_ids)
                rows.append(state.logits[0].to("cpu", torch.float32, copy=True))
                for index, token in enumerate(continuation_ids[:-1], start=1):
                    self.ring.receive(index - 1)
                    state.token.fill_(token)
                    self._decode(index, length + index - 1)
                    rows.append(state.logits[0].to("cpu", torch.float32, copy=True))
        finally:
            self._finish()
        save_logits_file(torch.stack(rows), path)
        return True

    def memory(self) -> MemoryReport:
        """See `base.Engine`."""
        return self.backend.memory(self._graphs.bytes)

    def counters(self) -> dict[str, float]:
        """See `base.Engine`."""
        return {
            **self._graphs.counters(),
            "prefills": self.prefills,
            "decode_steps": self.decode_steps,
            "decode_replays": self.decode_steps if self._graphs.replays else 0,
            "recompiles": compile_count() - self._compiled_before,
        }

    def facts(self) -> Facts:
        """See `base.Engine`."""
        return msgspec.structs.replace(self.steps.facts(), ahead=self.ahead, grad_mode="inference_mode")

    def capturing(self) -> bool:
        """See `base.Engine`."""
        return self._graphs.pool.capturing

    def close(self) -> None:
        """See `base.Engine`."""
        if self._closed:
            return
        self._closed = True
        self.worker.close()
        self.backend.synchronize()
        if self.graphs is not None:
            self.graphs.close()
        self.backend.close()


class _Request:
    """What is noted of the running request, in arrays made once."""

    def __init__(self, tokens: int) -> None:
        self.tokens = 0  # that have been handed over
        self.hit: bool | None = None  # None without graphs
        self.begin_ns = 0
        self.lookup_ns, self.launch_ns = array("q", bytes(8 * tokens)), array("q", bytes(8 * tokens))
