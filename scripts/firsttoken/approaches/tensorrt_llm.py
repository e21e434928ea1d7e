"""TensorRT-LLM's engine backend: a TensorRT engine, built by its own rule, with the settings of the latency tool.

How requests are streamed, watched and timed is the same for its PyTorch backend (tensorrt_llm_pytorch.py).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from firsttoken.approaches.base import Approach, DiscardingSink, TokenSink
from firsttoken.external.tensorrt_llm import engine as trtllm_engine
from firsttoken.external.tensorrt_llm import settings as trtllm_settings
from firsttoken.external.tensorrt_llm.worker import WorkerWatch, find_workers
from firsttoken.plan import Device, Plan, Unsupported, check_fits
from firsttoken.results import Availability, Facts, Setting, SetupTimes
from firsttoken.transient import Transient


class TensorRTLLM(Approach):
    """Token ids in, streamed token ids out; no tokenizer, no text."""

    name = "tensorrt_llm"
    title = "TensorRT-LLM"
    graphs = True
    dynamic_operations = "engine"
    environment = "tensorrt_llm"
    packages: ClassVar[tuple[str, ...]] = ("tensorrt_llm", "tensorrt")
    gives_logits = False
    needs_engine = True

    _llm: Any = None
    _settings: dict[str, Setting]
    _watch: WorkerWatch | None = None
    _timings: _ExecutorTimings

    @classmethod
    def availability(cls, device: Device, dtype: str, to_be_installed: bool = False) -> Availability:
        how = trtllm_settings.HOW_TO_INSTALL
        if device == "cpu":
            return Availability(
                status="unavailable", reason=f"TensorRT-LLM needs an NVIDIA GPU and its own software; {how}"
            )
        if to_be_installed:
            return Availability(status="measured")
        if importlib.util.find_spec("tensorrt_llm") is None:
            return Availability(status="unavailable", reason=f"TensorRT-LLM is not installed here; {how}")
        try:
            found = metadata.version("tensorrt_llm")
        except metadata.PackageNotFoundError:
            found = "of an unknown version"
        if found != trtllm_settings.VERSION:
            reason = f"TensorRT-LLM {found} is installed, this needs {trtllm_settings.VERSION}; {how}"
            return Availability(status="unavailable", reason=reason)
        return Availability(status="measured")

    @classmethod
    def deployed(cls, methods: Sequence[str], device: Device, dtype: str) -> Availability:
        if "apptainer" in methods and device == "cuda":
            problem = trtllm_settings.container_problem(platform.python_version())
            return Availability(status="unavailable" if problem else "measured", reason=problem)
        return super().deployed(methods, device, dtype)

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        """Start the runtime, run every prompt length twice."""
        start = time.perf_counter()
        if plan.device != "cuda":
            raise Unsupported("TensorRT-LLM needs an NVIDIA GPU")
        self._plan = plan
        os.environ.update(trtllm_settings.process_environment(plan))
        trtllm_engine.require_environment()
        import tensorrt_llm

        imported = time.perf_counter()
        self._sampling_params = tensorrt_llm.SamplingParams
        self._llm = self._start(model_dir, plan)
        chosen = trtllm_settings.recorded_settings(self._llm.args)
        self._settings = {**trtllm_settings.process_environment(plan), **chosen}
        self._watch = WorkerWatch(find_workers())
        if self._watch.worker_count == 0 and not plan.tensorrt_llm.single_process:
            raise RuntimeError(
                "TensorRT-LLM started no worker process that can be watched; set tensorrt_llm: {single_process: true}"
            )
        loaded = time.perf_counter()
        self._timings = _ExecutorTimings()
        for length in plan.prompt_lengths:
            for _ in range(2):
                self.generate([1] * length, plan.new_tokens, DiscardingSink())
        self._timings = _ExecutorTimings()
        warm = time.perf_counter()
        return SetupTimes(imports_s=imported - start, load_s=loaded - imported, warm_up_s=warm - loaded)

    def _start(self, model_dir: Path, plan: Plan) -> Any:
        """The runtime's `LLM`, with the engine in `plan.engine_dir`, which is checked first."""
        from tensorrt_llm._tensorrt_engine import LLM

        engine_dir = Path(plan.engine_dir)
        trtllm_engine.check_engine(engine_dir, plan)
        return LLM(
            model=str(engine_dir),
            skip_tokenizer_init=True,
            **trtllm_settings.engine_arguments(plan, cuda_graphs=self.graphs),
        )

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        """Push the stream's chunks as they come. Raises RuntimeError where they are not exactly those asked for."""
        check_fits(len(prompt_ids), max_new_tokens, self._plan.max_context)
        assert self._watch is not None
        parameters = self._sampling_params(**trtllm_settings.sampling_arguments(self._plan, max_new_tokens))
        seen = 0
        output = None
        try:
            result = self._llm.generate_async(list(prompt_ids), sampling_params=parameters, streaming=True)
            with self._watch.guard(result):
                for step in result:
                    output = step.outputs[0]
                    # One list that grows: its length is taken once, since the next chunk may already be arriving.
                    count = len(output.token_ids)
                    if count > max_new_tokens:
                        break
                    if count > seen:
                        sink.push_chunk(output.token_ids[seen:count])
                        seen = count
        except Exception as error:
            if self._watch.death:
                raise Transient(self._watch.death) from error
            raise RuntimeError(f"TensorRT-LLM could not finish a request: {' '.join(str(error).split())}") from error
        received = seen if output is None else len(output.token_ids)
        if received != max_new_tokens:
            finish = None if output is None else output.finish_reason
            raise RuntimeError(f"TensorRT-LLM gave {received} tokens for {max_new_tokens} (finish reason {finish})")
        self._timings.add(output.request_perf_metrics if output is not None else None)

    def counters(self) -> dict[str, float]:
        """The settings as they were, and the executor's own times as a cross-check of ours."""
        sizes = trtllm_settings.engine_sizes(self._plan)
        return {
            "worker_processes": self._watch.worker_count if self._watch else 0,
            "single_process": float(self._plan.tensorrt_llm.single_process),
            "cuda_graph_mode": float(self.graphs),
            "kv_cache_tokens": sizes.kv_cache_tokens,
            "executor_requests": self._timings.requests,
            "executor_queue_ms_sum": self._timings.queue_ms,
            "executor_ttft_ms_sum": self._timings.ttft_ms,
            "executor_request_ms_sum": self._timings.request_ms,
        }

    def facts(self) -> Facts:
        where = "in this process" if self._plan.tensorrt_llm.single_process else "in an MPI worker process"
        graphs = "with CUDA graphs" if self.graphs else "without CUDA graphs"
        # float32 runs with NVIDIA_TF32_OVERRIDE=0; the half types have no TF32.
        return Facts(attention=f"{self._attention()}, {where}, {graphs}", tf32="off", settings=self._settings)

    def _attention(self) -> str:
        return "TensorRT-LLM's GPT attention plugin"

    def close(self) -> None:
        watch, self._watch = self._watch, None
        llm, self._llm = self._llm, None
        if watch is not None:
            watch.close()
        if llm is not None:
            llm.shutdown()


class _ExecutorTimings:
    """Sums of what the executor says of each request (`request_perf_metrics.timing_metrics`, times as timedelta).

    Milliseconds over all requests so far: sums, so that the harness can tell what the measured ones add.
    """

    def __init__(self) -> None:
        self.requests = self.queue_ms = self.ttft_ms = self.request_ms = 0.0

    def add(self, metrics: Any) -> None:
        """Count one request. Raises RuntimeError where KV blocks of an earlier request were reused: no fair prefill."""
        if metrics is None:
            return
        times = metrics.timing_metrics
        self.requests += 1
        self.queue_ms += (times.first_scheduled_time - times.arrival_time).total_seconds() * 1e3
        self.ttft_ms += (times.first_token_time - times.arrival_time).total_seconds() * 1e3
        self.request_ms += (times.last_token_time - times.arrival_time).total_seconds() * 1e3
        reused = metrics.kv_cache_metrics.num_reused_blocks
        if reused:
            raise RuntimeError(f"TensorRT-LLM reused {reused} KV blocks of an earlier prompt; block reuse must be off")
