"""The engine of `compiled_graph`: compiled steps, captured whole, queued ahead of the tokens that are read."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from firsttoken.compiled.compiled_step import CompiledSteps, StepOptions
from firsttoken.compiled.triton_tuning import Timed
from firsttoken.engine.backend import Backend, backend_for
from firsttoken.engine.buckets import buckets_in_use, padded_length, prefill_lengths
from firsttoken.engine.compile_cache import compile_counters, use_compile_cache
from firsttoken.engine.contract import EngineSpec, check_fits
from firsttoken.engine.graphs import EagerStep, StepGraph
from firsttoken.hf.eager_decode import save_logits_file
from firsttoken.hf.load import load_model, tf32_state
from firsttoken.plan import Plan
from firsttoken.results import MemoryReport, SetupTimes, TokenTiming

QUEUED_AHEAD = 2  # decode steps that wait on the device while a token is read, so that it never waits for the host


def build_compiled_engine(spec: EngineSpec, imports_s: float = 0.0) -> CompiledEngine:
    """Load, compile, capture and warm. Raises Unsupported for a model that the compiled steps do not compute."""
    use_cache = use_compile_cache(spec.plan.compile_cache_dir)
    started_s = time.perf_counter()
    model = load_model(spec.model_dir, spec.plan.dtype, spec.plan.device, threads=spec.plan.threads)
    setup = SetupTimes(imports_s=imports_s, load_s=time.perf_counter() - started_s)
    return CompiledEngine(model, spec.plan, StepOptions(), setup, use_cache)


class CompiledEngine:
    """One request at a time, all calls from one thread. See `contract.Engine`."""

    def __init__(
        self,
        model: torch.nn.Module,
        plan: Plan,
        options: StepOptions,
        setup: SetupTimes,
        cache: str,
        form: Backend | None = None,
    ) -> None:
        """`setup` and `cache`: what loading took, and the state of the compile cache, to report; `form` is the device's
        own unless a test brings another."""
        self._plan, self._options, self._compile_cache = plan, options, cache
        self._form: Backend = form or backend_for(plan.device, getattr(torch, plan.dtype))
        self._prefills: dict[int, StepGraph] = {}
        self._decodes: dict[int, StepGraph] = {}
        self._counts = {"prefills": 0, "prefill_hits": 0, "prefill_misses": 0, "decode_steps": 0, "decode_replays": 0}
        started_s = time.perf_counter()
        next(model.parameters()).flatten()[0].item()  # waits for the stream that brought the weights
        with self._form.stream():
            self._steps = CompiledSteps(
                model, plan.max_context, plan.sampling, plan.seed, options, plan.compile_cache_dir
            )
            self._ring = self._form.ring(self._steps.buffers.token)
            self._clock = self._form.clock(plan.max_context)
            self._host_ns = array("q", bytes(8 * 2 * plan.max_context))  # lookup and launch of each token
            self._last_request = (0, False)
            self._staging_ns = 0  # of the last prompt
            self._compile()
            compiled_s = time.perf_counter()
            self._capture()
        captured_s = time.perf_counter()
        self._warm_up()
        self.setup = SetupTimes(
            imports_s=setup.imports_s,
            load_s=setup.load_s,
            compile_s=compiled_s - started_s,
            capture_s=captured_s - compiled_s,
            warm_up_s=time.perf_counter() - captured_s,
        )

    # -------------------------------------------------------------- making ready

    def _compile(self) -> None:
        """Run each step once, which compiles and tunes it."""
        with torch.inference_mode():
            for length in prefill_lengths(self._plan):
                self._rehearsal(self._steps.prefill_step(length))()
            for bucket in buckets_in_use(self._plan):
                self._rehearsal(self._steps.decode_step(bucket))()
        self._form.synchronize()

    def _capture(self) -> None:
        for length in prefill_lengths(self._plan):
            step = self._steps.prefill_step(length)
            self._prefills[length] = self._form.make_step(step, self._rehearsal(step))
        for bucket in buckets_in_use(self._plan):
            step = self._steps.decode_step(bucket)
            self._decodes[bucket] = self._form.make_step(step, self._rehearsal(step))

    def _rehearsal(self, step: Callable[[], None]) -> Callable[[], None]:
        """The step from position 0 and for a prompt of one token."""

        def rehearse() -> None:
            self._steps.buffers.clear()
            step()

        return rehearse

    def _warm_up(self) -> None:
        """Two requests of each length, then a clean slate: random stream and counters."""
        for length in sorted(set(self._plan.prompt_lengths)):
            for _ in range(2):
                self.generate([1] * length, self._plan.new_tokens, _ignore, _never)
        self._steps.buffers.reseed(self._plan.seed)
        self._form.synchronize()
        self._counts = dict.fromkeys(self._counts, 0)
        self._compiled_at_start = compile_counters()

    # -------------------------------------------------------------- serving

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        emit: Callable[[int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        length = len(prompt_ids)
        check_fits(length, max_new_tokens, self._plan.max_context)
        ahead = QUEUED_AHEAD if self._ring.lag else 0
        with torch.inference_mode(), self._form.stream():
            hit = self._start(prompt_ids)
            queued = received = 1
            for index in range(max_new_tokens):
                while queued < min(max_new_tokens, index + 1 + ahead):
                    self._queue_decode(queued, length + queued - 1)
                    queued += 1
                token = self._ring.receive(index)
                received = index + 1
                emit(token)
                if cancelled():
                    break
            self._ring.discard()
        self._last_request = (received, hit)

    def _start(self, prompt_ids: Sequence[int]) -> bool:
        """Stage the prompt and queue its prefill; returns whether a captured one was there."""
        before_ns = time.perf_counter_ns()
        step, padded, hit = self._find_prefill(len(prompt_ids))
        found_ns = time.perf_counter_ns()
        self._steps.buffers.stage(prompt_ids, padded)
        self._staging_ns = time.perf_counter_ns() - found_ns
        self._queue(step, 0, found_ns - before_ns)
        self._counts["prefills"] += 1
        self._counts["prefill_hits" if hit else "prefill_misses"] += 1
        return hit

    def _queue_decode(self, index: int, position: int) -> None:
        """Queue the step that reads the token at `position` and chooses token `index` of the request."""
        before_ns = time.perf_counter_ns()
        step = self._find_decode(position)
        self._queue(step, index, time.perf_counter_ns() - before_ns)
        self._counts["decode_steps"] += 1
        self._counts["decode_replays"] += 1

    def _queue(self, step: StepGraph, index: int, lookup_ns: int) -> None:
        self._clock.mark(index, 0)
        before_ns = time.perf_counter_ns()
        step.replay()
        self._host_ns[2 * index] = lookup_ns
        self._host_ns[2 * index + 1] = time.perf_counter_ns() - before_ns
        self._clock.mark(index, 1)
        self._ring.send(index)

    def _find_prefill(self, length: int) -> tuple[StepGraph, int, bool]:
        padded = padded_length(self._plan.graphs, length, self._plan.max_context)
        graph = self._prefills.get(padded)
        if graph is not None:
            return graph, padded, True
        return EagerStep(self._steps.prefill_step(length, plain=True)), length, False

    def _find_decode(self, position: int) -> StepGraph:
        for bucket, graph in self._decodes.items():  # in ascending order, a handful
            if position < bucket:
                return graph
        raise ValueError(f"position {position} is past the end of the KV cache ({self._plan.max_context} positions)")

    # -------------------------------------------------------------- looking back

    def timings(self) -> Sequence[TokenTiming]:
        tokens, hit = self._last_request
        return [
            TokenTiming(
                device_ns=self._clock.step_ns(index),
                lookup_ns=self._host_ns[2 * index],
                launch_ns=self._host_ns[2 * index + 1],
                # staging with its padding is all the dynamic work that is not inside the captured step
                sampling_ns=self._staging_ns if index == 0 else None,
                pool_hit=hit if index == 0 else True,
            )
            for index in range(tokens)
        ]

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        check_fits(len(prompt_ids), len(continuation_ids), self._plan.max_context)
        with torch.inference_mode(), self._form.stream():
            step, padded, _ = self._find_prefill(len(prompt_ids))
            self._steps.buffers.stage(prompt_ids, padded)

            def run(index: int, position: int) -> None:
                (step if index == 0 else self._find_decode(position)).replay()

            logits = self._steps.teacher_forced(prompt_ids, continuation_ids, run)
        save_logits_file(logits, path)
        return True

    def tuned(self) -> dict[str, list[Timed]]:
        """Hand-written kernels that this process has timed, each with its configs, fastest first."""
        return self._steps.timed

    def memory(self) -> MemoryReport:
        graphs = [*self._prefills.values(), *self._decodes.values()]
        return self._form.memory(self._form.shared_graph_bytes + sum(graph.bytes for graph in graphs))

    def counters(self) -> dict[str, float]:
        return {
            **self._counts,
            "captures": len(self._prefills) + len(self._decodes),
            "evictions": 0,
            "failed_captures": 0,
            "recompiles": compile_counters() - self._compiled_at_start,
        }

    def facts(self) -> dict[str, str]:
        decode = "Inductor" if self._options.decode_attention == "plain" else "sdpa"
        decode = "Triton" if self._steps.kernels.startswith("triton") else decode
        return {
            "attention": f"{'Triton' if self._steps.has_prompt_layers else 'sdpa'} (prefill), {decode} (decode)",
            "kernels": self._steps.kernels,
            "tf32": tf32_state(),
            "compile_cache": self._compile_cache,
        }

    def close(self) -> None:
        if not self._decodes:
            return
        self._form.synchronize()
        for graph in (*self._prefills.values(), *self._decodes.values()):
            graph.close()
        self._prefills.clear()
        self._decodes.clear()
        self._form.close()


def _ignore(token: int) -> None:
    pass


def _never() -> bool:
    return False
