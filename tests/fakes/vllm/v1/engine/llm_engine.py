"""vllm/v1/engine/llm_engine.py: `LLMEngine`, with the engine core in this process or behind a queue.

With two processes the second one only sleeps, so that it can be killed: a thread takes its part, and the results of
`collective_rpc` pass through msgpack. As in `SyncMPClient`, nothing wakes a client that waits when the process dies.
"""

from __future__ import annotations

import importlib
import os
import queue
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec

from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.usage.usage_lib import UsageContext


class EngineDeadError(Exception):
    def __init__(self) -> None:
        super().__init__("EngineCore encountered an issue. See stack trace (above) for the root cause.")


class Core:
    """vllm/v1/engine/core.py: builds the worker as the executor does and decodes with it."""

    def __init__(self, config: Any) -> None:
        self.config = config
        module, _, name = config.parallel_config.worker_cls.rpartition(".")
        worker_class = getattr(importlib.import_module(module), name)
        self.worker = worker_class(
            vllm_config=config, local_rank=0, rank=0, distributed_init_method="", is_driver_worker=True
        )
        self.worker.init_device()
        self.worker.load_model()
        self.worker.initialize_from_config(self.worker.determine_available_memory())
        self.worker.compile_or_warm_up_model()

    def decode(self, prompt: list[int], params: SamplingParams) -> list[tuple[list[int], Any]]:
        """The chunks of a request: tokens and, where asked for, `FlatLogprobs` of the last."""
        from firsttoken.hf.eager_decode import greedy_decode

        assert params.max_tokens is not None
        room = self.config.model_config.max_model_len - len(prompt)
        tokens, logits = greedy_decode(self.worker.model, prompt, min(params.max_tokens, room))
        tokens = tokens[: len(tokens) - LLMEngine.lost_tokens] + [0] * LLMEngine.extra_tokens
        chunks: list[tuple[list[int], Any]] = []
        done = 0
        while done < len(tokens):
            size = 1 if params.logprobs else LLMEngine.chunk_sizes[len(chunks) % len(LLMEngine.chunk_sizes)]
            part = tokens[done : done + size]
            done += len(part)
            chunks.append((part, flat(logits[done - 1], part[-1]) if params.logprobs else None))
        return chunks


def flat(logits: Any, sampled: int) -> Any:
    """vllm/logprobs.py: the sampled token first, then all by falling probability."""
    logprobs = logits.log_softmax(-1) + LLMEngine.logprob_error
    order = logprobs.argsort(descending=True)[LLMEngine.lost_logprobs :]
    ids = [sampled, *order.tolist()]
    return SimpleNamespace(token_ids=ids, logprobs=logprobs[ids].tolist(), start_indices=[0], end_indices=[len(ids)])


Output = tuple[str, list[int], Any]  # request id, tokens, log-probabilities


class InprocClient:
    def __init__(self, config: Any) -> None:
        self.core = Core(config)
        self.is_shut_down = False
        self.pending: list[Output] = []

    def add_request(self, outputs: list[Output]) -> None:
        self.pending = outputs

    def get_output(self) -> Output:
        return self.pending.pop(0)

    def call(self, method: str) -> Any:
        return getattr(self.core.worker, method)()

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_shut_down = True


class CoreProcess:
    """What `multiprocessing.Process` says of itself."""

    def __init__(self, popen: subprocess.Popen[bytes], sentinel: int) -> None:
        self.pid, self.sentinel, self._popen = popen.pid, sentinel, popen

    @property
    def exitcode(self) -> int | None:
        return self._popen.poll()


class SyncMPClient(InprocClient):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.popen = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._pidfd = os.pidfd_open(self.popen.pid)
        process = CoreProcess(self.popen, self._pidfd)
        self.resources = SimpleNamespace(engine_manager=SimpleNamespace(processes=[process]))
        self.outputs_queue: queue.Queue[Any] = queue.Queue()

    def add_request(self, outputs: list[Output]) -> None:
        if self.popen.poll() is not None:
            raise EngineDeadError

        def send() -> None:
            for index, output in enumerate(outputs):
                if index == LLMEngine.stop_after_chunks:
                    return
                self.outputs_queue.put(output)

        threading.Thread(target=send, daemon=True).start()

    def get_output(self) -> Output:
        output: Any = self.outputs_queue.get()
        if isinstance(output, Exception):
            raise output
        return output  # type: ignore[no-any-return]

    def call(self, method: str) -> Any:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(super().call(method)))

    def shutdown(self, timeout: float | None = None) -> None:
        if not self.is_shut_down:
            super().shutdown()
            self.popen.kill()
            self.popen.wait()
            os.close(self._pidfd)


class LLMEngine:
    # What a test may decide; the instances that it made, newest last.
    chunk_sizes: ClassVar[tuple[int, ...]] = (1,)
    lost_tokens: ClassVar[int] = 0
    extra_tokens: ClassVar[int] = 0
    cached_tokens: ClassVar[int] = 0
    lost_logprobs: ClassVar[int] = 0
    logprob_error: ClassVar[float | Any] = 0.0
    stop_after_chunks: ClassVar[int | None] = None  # two processes: silence, as when the other is gone
    error: ClassVar[str] = ""
    instances: ClassVar[list[LLMEngine]] = []

    @classmethod
    def from_vllm_config(
        cls,
        vllm_config: Any,
        usage_context: UsageContext = UsageContext.ENGINE_CONTEXT,
        stat_loggers: list[object] | None = None,
        disable_log_stats: bool = False,
    ) -> LLMEngine:
        return cls(vllm_config, log_stats=not disable_log_stats)

    def __init__(self, vllm_config: Any, log_stats: bool) -> None:
        self.vllm_config, self.log_stats = vllm_config, log_stats
        self.environment = dict(os.environ)
        several = self.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"
        self.engine_core: Any = (SyncMPClient if several else InprocClient)(vllm_config)
        self._request: Any = None
        self.requests: list[tuple[list[int], SamplingParams]] = []  # all, for a test to read
        LLMEngine.instances.append(self)

    def add_request(self, request_id: str, prompt: Any, params: SamplingParams) -> str:
        assert isinstance(request_id, str) and prompt["type"] == "token" and self._request is None
        ids, model = prompt["prompt_token_ids"], self.vllm_config.model_config
        assert isinstance(ids, list) and all(type(token) is int for token in ids)
        if len(ids) >= model.max_model_len:
            raise ValueError(f"The decoder prompt (length {len(ids)}) is longer than the maximum model length")
        if params.logprobs == -1 and model.max_logprobs != -1:
            raise ValueError("Requested sample logprobs of -1, which is greater than max allowed")
        assert params.output_kind == RequestOutputKind.DELTA and params.ignore_eos and not params.detokenize
        assert params.logprobs is None or params.flat_logprobs, "a dictionary of the vocabulary takes a second a row"
        self.requests.append((ids, params))
        chunks = self.engine_core.core.decode(ids, params)
        self.engine_core.add_request([(request_id, *chunk) for chunk in chunks])
        self._request = SimpleNamespace(id=request_id, tokens=sum(len(part) for part, _ in chunks), steps=0)
        return f"{request_id}-0123abcd"

    def has_unfinished_requests(self) -> bool:
        return self._request is not None

    def step(self) -> list[Any]:
        """The first step only schedules, as with asynchronous scheduling."""
        if self.error:
            raise RuntimeError(self.error)
        self._request.steps += 1
        if self._request.steps == 1:
            return []
        request_id, part, logprobs = self.engine_core.get_output()
        if request_id != self._request.id:
            return []  # of a request that was aborted
        self._request.tokens -= len(part)
        finished = not self._request.tokens
        completion = SimpleNamespace(
            index=0, token_ids=part, logprobs=logprobs, finish_reason="length" if finished else None
        )
        output = SimpleNamespace(
            request_id=self._request.id, outputs=[completion], finished=finished, num_cached_tokens=self.cached_tokens
        )
        if finished:
            self._request = None
        return [output]

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        if self._request is not None and self._request.id in request_ids:
            self._request = None

    def collective_rpc(self, method: str) -> list[Any]:
        return [self.engine_core.call(method)]
