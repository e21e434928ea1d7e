"""tensorrt_llm/llmapi/llm.py: `BaseLLM`, `_TrtLLM` (the engine backend) and `LLM` (the PyTorch backend).

The results follow tensorrt_llm/executor/result.py: a queue that is waited on without a limit, one `CompletionOutput`
whose `token_ids` grows, ValueError for a response of an unknown type. The tokens come from our eager reference.
"""

from __future__ import annotations

import datetime
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import tensorrt_llm
from tensorrt_llm.llmapi.llm_args import BaseLlmArgs, TorchLlmArgs, TrtLlmArgs
from tensorrt_llm.sampling_params import SamplingParams


@dataclass
class CompletionOutput:
    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    request_perf_metrics: Any = None


class RequestOutput:
    """What `generate_async` returns: an iterator that yields itself after each response."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Any] = queue.Queue()
        self._output = CompletionOutput(0)
        self._done = False

    @property
    def outputs(self) -> list[CompletionOutput]:
        return [self._output]

    def __iter__(self) -> RequestOutput:
        return self

    def __next__(self) -> RequestOutput:
        if self._done:
            raise StopIteration
        response = self.queue.get()
        if not isinstance(response, SimpleNamespace):
            raise ValueError(f"Unknown response type: {response}")
        if response.error:
            raise RuntimeError(response.error)
        self._output.token_ids.extend(response.tokens)
        if response.final:
            self._done = True
            self._output.finish_reason = "length"
            self._output.request_perf_metrics = response.metrics
        return self


class BaseLLM:
    """A positional `model`, then keywords; unknown ones raise ValueError."""

    args_class: ClassVar[type[BaseLlmArgs]]
    args: Any
    _weights: Path

    # What a test may decide; the instances that a test has made, newest last.
    chunk_sizes: ClassVar[tuple[int, ...]] = (1, 0, 3)
    lost_tokens: ClassVar[int] = 0
    extra_tokens: ClassVar[int] = 0
    reused_blocks: ClassVar[int] = 0
    stop_after_tokens: ClassVar[int | None] = None  # the stream goes silent, as when the worker is gone
    error: ClassVar[str] = ""
    instances: ClassVar[list[BaseLLM]] = []

    def __init__(
        self,
        model: str | Path,
        tokenizer: object | None = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        for key in kwargs:
            if key not in self.args_class.model_fields:
                raise ValueError(f"{type(self).__name__} got invalid argument: {key}")
        self.args = self.args_class(
            model=model,
            tokenizer=tokenizer,
            tokenizer_mode=tokenizer_mode,
            skip_tokenizer_init=skip_tokenizer_init,
            trust_remote_code=trust_remote_code,
            tensor_parallel_size=tensor_parallel_size,
            dtype=dtype,
            revision=revision,
            tokenizer_revision=tokenizer_revision,
            **kwargs,
        )
        if not skip_tokenizer_init:
            raise ValueError("the stand-in loads no tokenizer; transformers 4.57 may not read one that version 5 saved")
        self.environment = dict(os.environ)
        self.worker: subprocess.Popen[bytes] | None = None
        self.is_shut_down = False
        self._load(Path(model), json.loads((Path(model) / "config.json").read_text()))
        if os.environ.get("TLLM_WORKER_USE_SINGLE_PROCESS", "0") != "1":
            # A process with the command line of one that MPIPoolExecutor spawns.
            self.worker = subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(600)", "mpi4py.futures.server"]
            )
        BaseLLM.instances.append(self)

    def _load(self, model: Path, config: dict[str, Any]) -> None:
        """Sets `_weights`, the folder of the model in the end."""
        raise NotImplementedError

    def _check_length(self, prompt_length: int, max_tokens: int) -> None:
        raise NotImplementedError

    def generate_async(
        self,
        inputs: Any,
        sampling_params: SamplingParams | None = None,
        lora_request: object | None = None,
        prompt_adapter_request: object | None = None,
        streaming: bool = False,
        kv_cache_retention_config: object | None = None,
        disaggregated_params: object | None = None,
        _postproc_params: object | None = None,
        scheduling_params: object | None = None,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        if self.is_shut_down:
            raise RuntimeError("LLM is shutting down")
        if not isinstance(sampling_params, SamplingParams) or sampling_params.end_id is None:
            raise ValueError("tokenizer is required to reset end_id if it is None")
        if not (isinstance(inputs, list) and all(type(token) is int for token in inputs)):
            raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")
        self._check_length(len(inputs), sampling_params.max_tokens)
        assert streaming
        result = RequestOutput()
        threading.Thread(target=self._answer, args=(inputs, sampling_params, result), daemon=True).start()
        return result

    def _answer(self, prompt: list[int], params: SamplingParams, result: RequestOutput) -> None:
        if self.error:
            result.queue.put(SimpleNamespace(error=self.error))
            return
        tokens = self._tokens(prompt, params.max_tokens)
        tokens = tokens[: len(tokens) - self.lost_tokens] + [0] * self.extra_tokens
        sent = step = 0
        while sent < len(tokens):
            size = self.chunk_sizes[step % len(self.chunk_sizes)]
            chunk = tokens[sent : sent + size]
            if self.stop_after_tokens is not None and sent + len(chunk) > self.stop_after_tokens:
                return
            sent, step = sent + len(chunk), step + 1
            final = sent == len(tokens)
            metrics = self._metrics() if final and params.return_perf_metrics else None
            result.queue.put(SimpleNamespace(error="", tokens=chunk, final=final, metrics=metrics))

    def _metrics(self) -> SimpleNamespace:
        """bindings.executor.RequestPerfMetrics: times are timedelta since the steady clock's start."""
        start = datetime.timedelta(seconds=100)
        return SimpleNamespace(
            timing_metrics=SimpleNamespace(
                arrival_time=start,
                first_scheduled_time=start + datetime.timedelta(milliseconds=1),
                first_token_time=start + datetime.timedelta(milliseconds=3),
                last_token_time=start + datetime.timedelta(milliseconds=9),
            ),
            kv_cache_metrics=SimpleNamespace(num_reused_blocks=self.reused_blocks),
        )

    def _tokens(self, prompt: list[int], new_tokens: int) -> list[int]:
        """Our reference's. Several processes that run the same model may share them through the file that
        STAND_IN_TOKENS names: importing torch takes ten seconds."""
        shared = os.environ.get("STAND_IN_TOKENS")
        if not shared:
            return self._reference_tokens(prompt, new_tokens)
        path = Path(shared)
        known: dict[str, list[int]] = json.loads(path.read_text()) if path.exists() else {}
        key = f"{new_tokens} after {prompt}"
        if key not in known:
            known[key] = self._reference_tokens(prompt, new_tokens)
            path.write_text(json.dumps(known))
        return known[key]

    def _reference_tokens(self, prompt: list[int], new_tokens: int) -> list[int]:
        from transformers import AutoModelForCausalLM

        from firsttoken.hf.eager_decode import greedy_decode

        if not hasattr(self, "_model"):
            self._model = AutoModelForCausalLM.from_pretrained(self._weights).float()  # halves are slow on a CPU
        return greedy_decode(self._model, prompt, new_tokens)[0]

    def shutdown(self) -> None:
        self.is_shut_down = True
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            self.worker = None


class _TrtLLM(BaseLLM):
    args_class = TrtLlmArgs
    args: TrtLlmArgs

    def _load(self, model: Path, config: dict[str, Any]) -> None:
        self.is_engine = "build_config" in config
        if self.is_engine:
            self._weights, self._limits = Path((model / "rank0.engine").read_text()), config["build_config"]
        else:
            assert self.args.build_config is not None
            self.hf_config = config
            self._weights = (model / "model.safetensors").resolve().parent
            self.args.build_config.plugin_config.dtype = self.args.dtype
            self._limits = self._build_limits()

    def _build_limits(self) -> dict[str, Any]:
        build = self.args.build_config
        assert build is not None
        return {
            "max_input_len": build.max_input_len,
            "max_seq_len": build.max_seq_len,
            "max_batch_size": build.max_batch_size,
            "max_num_tokens": build.max_num_tokens,
            "plugin_config": {"gemm_plugin": build.plugin_config.gemm_plugin, "tokens_per_block": 32},
        }

    def _check_length(self, prompt_length: int, max_tokens: int) -> None:
        if prompt_length + max_tokens > self._limits["max_seq_len"]:
            raise ValueError("The sum of prompt length and max_tokens should not exceed max_seq_len")

    def save(self, engine_dir: str) -> None:
        assert isinstance(engine_dir, str)
        os.write(1, f"[TRT-LLM] [I] Save model to {engine_dir}\n".encode())  # past Python, as its C++ libraries print
        folder = Path(engine_dir)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "version": tensorrt_llm.__version__,
            "pretrained_config": {"architecture": self.hf_config["architectures"][0], "dtype": self.args.dtype},
            "build_config": self._limits,
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "rank0.engine").write_text(str(self._weights))


class LLM(BaseLLM):
    args_class = TorchLlmArgs
    args: TorchLlmArgs

    def __init__(self, model: str | Path, *args: Any, **kwargs: Any) -> None:
        engine_only = [key for key in kwargs if key in TrtLlmArgs.model_fields and key not in TorchLlmArgs.model_fields]
        if engine_only:
            raise ValueError(f"The following arguments are specific to TensorRT backend: {engine_only}")
        super().__init__(model, *args, backend="pytorch", **kwargs)

    def _load(self, model: Path, config: dict[str, Any]) -> None:
        """Its dtype is that of config.json: the model loader is not told the argument."""
        self.dtype = config["dtype"] or config["torch_dtype"]
        self._weights = (model / "model.safetensors").resolve().parent

    def _check_length(self, prompt_length: int, max_tokens: int) -> None:
        """Chunked prefill lifts the first limit; the second is the executor's own."""
        assert self.args.max_num_tokens is not None and self.args.max_seq_len is not None
        if not self.args.enable_chunked_prefill and prompt_length > self.args.max_num_tokens:
            raise ValueError("The sum of prompt length and query length should not exceed max_num_tokens")
        if prompt_length + max_tokens > self.args.max_seq_len:
            raise ValueError("default_max_tokens must be greater than 0")
