"""An engine over Hugging Face's forward: prefill, then decode steps; eager or replayed, the loop is the same."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from firsttoken.engine.backend import Backend, backend_for
from firsttoken.engine.capture_worker import CaptureWorker
from firsttoken.engine.compile_cache import compile_counters, use_compile_cache
from firsttoken.engine.contract import EngineSpec, check_fits
from firsttoken.engine.graph_cache import GraphCache
from firsttoken.hf.eager_decode import save_logits_file
from firsttoken.hf.kv_cache import aligned, allocate_storage
from firsttoken.hf.load import attention_name, load_model, tf32_state
from firsttoken.hf.masks import MaskPlan, use_ready_masks
from firsttoken.hf.native_ops import DynamicOps, NativeOps, StepState
from firsttoken.hf.steps import ModelSteps, refuse_unsupported, vocab_size
from firsttoken.results import MemoryReport, SetupTimes, TokenTiming

WARM_UP_CAPTURES_S = 60.0
WARM_TOKENS = 4  # of each warm-up request: a prefill, and decode steps with their hand-over one step late


class ModelEngine:
    """One model on one device; its spec says whether steps are graphs, and which dynamic operations surround them."""

    def __init__(self, spec: EngineSpec, imports_s: float = 0.0, form: Backend | None = None) -> None:
        """`form` is the device's own unless a test brings another."""
        self.spec, self.plan = spec, spec.plan
        plan = spec.plan
        jit = spec.dynamic_operations == "jit"
        self._compile_cache = use_compile_cache(plan.compile_cache_dir, few_kernels=True) if jit else "none"
        self._jit = jit
        self._closed = False
        moments = [time.perf_counter()]

        def lap() -> None:
            self.form.settle()
            moments.append(time.perf_counter())

        self.form = form or backend_for(plan.device, getattr(torch, plan.dtype))
        self.form.start_peaks()
        self.worker = CaptureWorker()
        try:
            self._load()
            lap()
            self.ops = self._make_ops()
            lap()
            self._make_library()
            lap()
            self._warm_up()
            lap()
        except BaseException:
            self.close()
            raise
        load_s, compile_s, capture_s, warm_up_s = (b - a for a, b in pairwise(moments))
        self.setup = SetupTimes(
            imports_s=imports_s, load_s=load_s, compile_s=compile_s, capture_s=capture_s, warm_up_s=warm_up_s
        )

    # ------------------------------------------------------------ making

    def _make_ops(self) -> DynamicOps:
        if self.spec.dynamic_operations == "jit":
            from firsttoken.hf.jit_ops import CompiledOps

            return CompiledOps(self.state, self.plan.sampling, self.plan.seed, self.plan.jit_backend)
        return NativeOps(self.state, self.plan.sampling, self.plan.seed)

    def _load(self) -> None:
        plan = self.plan
        self.model = load_model(self.spec.model_dir, plan.dtype, plan.device, threads=plan.threads)
        refuse_unsupported(self.model, plan.max_context)
        use_ready_masks(self.model)
        self.capacity = aligned(plan.max_context)
        self.masks = MaskPlan(self.model.config, self.model.dtype, self.form.device, self.capacity)
        self.storage = allocate_storage(self.model, self.capacity, self.masks.prefill(1))
        self.state = StepState(self.masks, vocab_size(self.model), plan.seed, pin=self.form.pinned)
        self.ring = self.form.ring(self.state.token)
        self.clock = self.form.clock(plan.max_context + 1)
        self._lookup_ns, self._launch_ns = (array("q", bytes(8 * plan.max_context)) for _ in range(2))
        self._timed_tokens = 0
        self._hit: bool | None = None
        self._reset_counters()

    def _make_library(self) -> None:
        steps = ModelSteps(self.model, self.masks)
        graphs = self.spec.forward == "graph"
        self.library = GraphCache(
            steps, self.state, self.storage, self.masks, self.form, self.worker, self.plan, graphs
        )
        self.pool = self.library.pool

    def _warm_up(self) -> None:
        """Every prompt length through the whole loop; then the random stream and the counters start anew."""
        for length in self.plan.prompt_lengths:
            for _ in range(2):
                self.generate([0] * length, min(self.plan.new_tokens, WARM_TOKENS), lambda token: None, lambda: False)
        self.worker.drain(
            WARM_UP_CAPTURES_S
        )  # captures that these requests asked for: more lengths than the pool holds
        self.reseed(self.plan.seed)
        self._compiled_before = compile_counters() if self._jit else 0
        self._reset_counters()

    def _reset_counters(self) -> None:
        self.prefills = self.decode_steps = self.decode_replays = 0
        self._pool_before = (self.pool.hits, self.pool.misses) if hasattr(self, "pool") else (0, 0)

    # ------------------------------------------------------------ running

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        emit: Callable[[int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """See `contract.Engine`."""
        length = len(prompt_ids)
        check_fits(length, max_new_tokens, self.plan.max_context)
        self.worker.engine_busy()
        try:
            with torch.inference_mode(), self.form.stream():
                self._prefill(prompt_ids, length)
                self.ring.send(0)
                emit(self.ring.receive(0))  # the first token never waits for a second step
                self._decode(length, max_new_tokens, emit, cancelled)
        finally:
            self._finish()

    def _prefill(self, prompt_ids: Sequence[int], length: int) -> None:
        """The prompt to the first token, queued."""
        clock, started_ns = self.clock, time.perf_counter_ns()
        step, self._hit = self.library.borrow_prefill(length)
        found_ns = time.perf_counter_ns()
        clock.mark(0, 0)
        self.ops.begin(prompt_ids)
        clock.mark(0, 1)
        clock.mark(1, 0)
        ready_ns = time.perf_counter_ns()
        step()
        self._launch_ns[0] = time.perf_counter_ns() - ready_ns
        clock.mark(1, 1)
        self.ops.advance()
        clock.mark(1, 2)
        self._lookup_ns[0] = found_ns - started_ns
        self._timed_tokens = 1
        self.prefills += 1

    def _decode(self, length: int, tokens: int, emit: Callable[[int], None], cancelled: Callable[[], bool]) -> None:
        """Tokens 1 to `tokens - 1`; token i comes from the step at position length + i - 1."""
        ring, clock, advance, at = self.ring, self.clock, self.ops.advance, self.library.decode_at
        # A step that is replayed is queued in no time, so that the device never waits for the host to read a token. One
        # that runs eagerly takes the host as long as the device: a token read behind it would come a whole step late.
        lag = ring.lag if self.library.graphs else 0
        lookup_ns, launch_ns, now_ns = self._lookup_ns, self._launch_ns, time.perf_counter_ns
        for i in range(1, tokens):
            if cancelled():
                return
            started_ns = now_ns()
            step = at[length + i - 1]
            found_ns = now_ns()
            clock.mark(i + 1, 0)
            step.replay()
            clock.mark(i + 1, 1)
            launched_ns = now_ns()
            advance()
            clock.mark(i + 1, 2)
            ring.send(i)
            lookup_ns[i], launch_ns[i] = found_ns - started_ns, launched_ns - found_ns
            self._timed_tokens = i + 1
            if i > lag:
                emit(ring.receive(i - lag))
        if lag and tokens > 1:
            emit(ring.receive(tokens - 1))

    def _finish(self) -> None:
        """After a request, however it ended: nothing is in flight, nothing unread, nothing leased."""
        self.form.synchronize()
        self.ring.discard()
        decoded = max(self._timed_tokens - 1, 0)
        self.decode_steps += decoded
        if self.library.graphs:
            self.decode_replays += decoded
        self.library.give_back()
        self.worker.engine_idle()

    def reseed(self, seed: int) -> None:
        """Start the random stream of sampling anew."""
        with self.form.stream():
            self.ops.reseed(seed)

    # ------------------------------------------------------------ reporting

    def timings(self) -> Sequence[TokenTiming]:
        """See `contract.Engine`. On a CPU the step runs within its launch, so that `launch_ns` is None."""
        rows = []
        for i in range(self._timed_tokens):
            device_ns, sampling_ns = self.clock.spans_ns(i + 1)
            if i == 0:
                sampling_ns += self.clock.step_ns(0)
            rows.append(
                TokenTiming(
                    device_ns=device_ns,
                    sampling_ns=sampling_ns,
                    lookup_ns=self._lookup_ns[i],
                    launch_ns=self._launch_ns[i] if self.form.pinned else None,
                    pool_hit=self._hit if i == 0 else None,
                )
            )
        return rows

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        """Teacher-forced through this engine's own prefill and decode steps, one token at a time."""
        length = len(prompt_ids)
        check_fits(length, len(continuation_ids), self.plan.max_context)
        rows: list[torch.Tensor] = []
        self._timed_tokens = 0
        self.worker.engine_busy()
        try:
            with torch.inference_mode(), self.form.stream():
                self._prefill(prompt_ids, length)
                rows.append(self.state.logits[0].to("cpu", torch.float32, copy=True))
                for i, token in enumerate(continuation_ids[:-1], start=1):
                    self.state.token.fill_(token)
                    self.library.decode_at[length + i - 1].replay()
                    rows.append(self.state.logits[0].to("cpu", torch.float32, copy=True))
                    self.ops.advance()
                    self._timed_tokens = i + 1
        finally:
            self._finish()
        save_logits_file(torch.stack(rows), path)
        return True

    def memory(self) -> MemoryReport:
        """See `contract.Engine`."""
        return self.form.memory(self.library.bytes)

    def counters(self) -> dict[str, float]:
        """See `contract.Engine`."""
        pool = self.pool
        return {
            "prefill_hits": pool.hits - self._pool_before[0],
            "prefill_misses": pool.misses - self._pool_before[1],
            "prefills": self.prefills,
            "decode_steps": self.decode_steps,
            "decode_replays": self.decode_replays,
            "captures": pool.captures,
            "evictions": pool.evictions,
            "failed_captures": pool.failed_captures,
            "recompiles": compile_counters() - self._compiled_before if self._jit else 0,
        }

    def facts(self) -> dict[str, str]:
        """See `contract.Engine`."""
        return {"attention": attention_name(self.model), "tf32": tf32_state(), "compile_cache": self._compile_cache}

    def close(self) -> None:
        """See `contract.Engine`."""
        if self._closed:
            return
        self._closed = True
        self.worker.close()
        self.form.synchronize()
        if hasattr(self, "library"):
            self.library.close()
        self.form.close()
