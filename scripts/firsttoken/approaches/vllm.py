"""vLLM in this process: its engine stepped by us, with the defaults of `vllm serve` but for what fairness asks."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Generator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from firsttoken.approaches.base import Approach, DiscardingSink, TokenSink
from firsttoken.engine.compilation import use_compile_cache
from firsttoken.external.vllm import settings as vllm_settings
from firsttoken.external.vllm.core_process import CoreWatch
from firsttoken.external.vllm.logprobs import teacher_forced
from firsttoken.files import atomic_path
from firsttoken.plan import Device, Plan, Unsupported, check_fits
from firsttoken.results import Availability, Facts, MemoryReport, SetupTimes
from firsttoken.transient import Transient


class Vllm(Approach):
    """Token ids in, token ids out as each step gives them; no tokenizer, no text."""

    name = "vllm"
    title = "vLLM"
    graphs = True
    dynamic_operations = "engine"
    environment = "vllm"
    devices = ("cuda",)
    packages = ("vllm", "torch", "triton", "transformers", "flashinfer-python")

    _engine: Any = None
    _watch: CoreWatch | None = None

    @classmethod
    def availability(cls, device: Device, dtype: str, to_be_installed: bool = False) -> Availability:
        found = super().availability(device, dtype, to_be_installed)
        if found.status == "unavailable" or to_be_installed:
            return found
        version = metadata.version("vllm")
        if version != vllm_settings.VERSION:  # `TimedWorker` is written for one version
            reason = f"vLLM {version} is installed, this needs {vllm_settings.VERSION}: make env-vllm"
            return Availability(status="unavailable", reason=reason)
        return found

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        """Start vLLM, which compiles and captures, and run every prompt length twice.

        Raises `Unsupported` for sampling or a model that vLLM refuses. The parts of the start are timed in vLLM's
        worker; imports include the start of its process, and warm-up is the rest.
        """
        started_s = time.perf_counter()
        if plan.device != "cuda":
            raise Unsupported("vLLM needs an NVIDIA GPU")
        vllm_settings.check_sampling(plan.sampling)
        self._plan, self._requests, self._chunks = plan, 0, 0
        self._set_environment(plan)
        from vllm import SamplingParams
        from vllm.engine.arg_utils import EngineArgs
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        self._sampling_params, self._tokens_input = SamplingParams, tokens_input
        self._delta = RequestOutputKind.DELTA
        self._arguments = vllm_settings.engine_arguments(model_dir, plan)
        context = UsageContext.OPENAI_API_SERVER  # decides defaults alone: those of `vllm serve`
        try:
            config = EngineArgs(**self._arguments).create_engine_config(context)
        except ValueError as error:
            raise Unsupported(f"vLLM refuses this model or plan: {' '.join(str(error).split())}") from error
        model, parallel = config.model_config, config.parallel_config
        config.cache_config.kv_cache_memory_bytes = vllm_settings.kv_cache_bytes(
            model.get_num_layers(parallel), model.get_num_kv_heads(parallel), model.get_head_size(), plan
        )
        self._vocab_size = model.get_vocab_size()
        # Without statistics, as vLLM's own `LLM` class runs: they cost time in every step.
        self._engine = LLMEngine.from_vllm_config(config, context, disable_log_stats=True)
        if self.processes == 2:
            self._watch = CoreWatch(self._engine.engine_core)
        for length in plan.prompt_lengths:
            for _ in range(2):
                self.generate([1] * length, plan.new_tokens, DiscardingSink())
        self._requests = self._chunks = 0
        times = self._ask_worker("start_times")
        self._ask_worker("reset_peak_memory")
        imports_s = times.pop("created_s") - started_s
        rest_s = time.perf_counter() - started_s - imports_s - sum(times.values())
        return SetupTimes(imports_s=imports_s, **times, warm_up_s=max(0.0, rest_s))

    def _set_environment(self, plan: Plan) -> None:
        """Variables that vLLM, Triton and Inductor read when they are imported, or in vLLM's process."""
        self._cache_state = use_compile_cache(plan.compile_cache_dir)
        cache = Path(os.environ["TRITON_CACHE_DIR"]).parent / "vllm" if plan.compile_cache_dir else ""
        self._environment = vllm_settings.process_environment(
            plan, str(cache), self.processes == 2, flashinfer=importlib.util.find_spec("flashinfer") is not None
        )
        os.environ.update(self._environment)

    def _ask_worker(self, method: str) -> Any:
        """What a method of `TimedWorker` returns."""
        return self._engine.collective_rpc(method)[0]

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        """Push each step's tokens as they come. Raises RuntimeError where they are not exactly those asked for."""
        check_fits(len(prompt_ids), max_new_tokens, self._plan.max_context)
        engine, received, output = self._engine, 0, None
        parameters = self._sampling_params(
            output_kind=self._delta, **vllm_settings.sampling_arguments(self._plan, max_new_tokens)
        )
        self._requests += 1
        request_id = str(self._requests)
        try:
            engine.add_request(request_id, self._tokens_input(list(prompt_ids)), parameters)
            while engine.has_unfinished_requests():
                for output in engine.step():
                    tokens = output.outputs[0].token_ids
                    received += len(tokens)
                    if tokens and received <= max_new_tokens:
                        sink.push_chunk(tokens)
                        self._chunks += 1
        except Exception as error:
            self._raise_for(error)
        if output is None or received != max_new_tokens:
            finish = None if output is None else output.outputs[0].finish_reason
            raise RuntimeError(f"vLLM gave {received} tokens for {max_new_tokens} (finish reason {finish})")
        if output.num_cached_tokens:
            raise RuntimeError(
                f"vLLM took {output.num_cached_tokens} prompt tokens from its prefix cache, which must be off"
            )

    def _raise_for(self, error: Exception) -> None:
        """The engine's error as one line, or that its process is gone."""
        if self._watch is not None and (death := self._watch.death()):
            # Without its cause, which vLLM names alike whether the process was killed or crashes every time.
            raise (Transient if self._watch.killed else RuntimeError)(death) from None
        raise RuntimeError(f"vLLM could not finish a request: {' '.join(str(error).split())}") from error

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        """Log-probabilities, which serve as logits. The file's metadata names the rows that a prefill gave."""
        from safetensors.numpy import save

        rows, prefilled = teacher_forced(self._decode_greedily, prompt_ids, continuation_ids, self._vocab_size)
        with atomic_path(path) as temporary:
            temporary.write_bytes(save({"logits": rows}, metadata={"prefill_rows": " ".join(map(str, prefilled))}))
        return True

    def _decode_greedily(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Generator[tuple[int, Any]]:
        """Tokens, each with the log-probabilities that it was chosen from, before any penalty."""
        parameters = self._sampling_params(
            max_tokens=max_new_tokens,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            logprobs=-1,
            flat_logprobs=True,
            output_kind=self._delta,
        )
        self._requests += 1
        request_id = str(self._requests)
        try:
            self._engine.add_request(request_id, self._tokens_input(list(prompt_ids)), parameters)
            while self._engine.has_unfinished_requests():
                for output in self._engine.step():
                    completion = output.outputs[0]
                    if len(completion.token_ids) > 1:
                        raise RuntimeError("vLLM gave several tokens in one step, where one is expected")
                    for token in completion.token_ids:
                        yield token, completion.logprobs
        finally:
            self._engine.abort_request([request_id])  # does nothing where it has finished

    def memory(self) -> MemoryReport:
        """Peaks of the process that holds the model, since it was ready."""
        return MemoryReport(**self._ask_worker("memory"))

    def counters(self) -> dict[str, float]:
        """Requests, chunks that brought tokens, captures and compilations."""
        return {"requests": self._requests, "chunks": self._chunks, **self._ask_worker("counters")}

    def facts(self) -> Facts:
        chosen = self._ask_worker("settings")
        backend, version = chosen["attention_backend"], chosen["flash_attention_version"]
        where = "in an engine core process" if self.processes == 2 else "in this process"
        return Facts(
            attention=f"vLLM's {backend}{f' (FlashAttention {version})' if version else ''}, {where}",
            tf32="off" if chosen["float32_matmul_precision"] == "highest" else "on",
            compile_cache=self._cache_state,
            grad_mode="inference_mode",
            settings=vllm_settings.recorded(self._arguments, self._environment, chosen),
        )

    def close(self) -> None:
        watch, self._watch = self._watch, None
        engine, self._engine = self._engine, None
        if watch is not None:
            watch.close()
        if engine is not None:
            engine.engine_core.shutdown()
