"""vLLM's GPU worker, with a clock around the parts of its start and a report of what it chose.

vLLM imports this file by name (its option `worker_cls`), in the process of the engine core. What runs for a request is
inherited as it is.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from vllm.compilation.counter import compilation_counter
from vllm.v1.worker.gpu_worker import Worker

from firsttoken.external.vllm.core_process import end_with_client


class TimedWorker(Worker):  # type: ignore[misc]
    """`start_times`, `memory`, `counters` and `settings` are called through `LLMEngine.collective_rpc`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._created_s = time.perf_counter()  # CLOCK_MONOTONIC: the same in all processes
        end_with_client()
        self._load_s = self._capture_s = 0.0
        self._graph_bytes = 0
        super().__init__(*arguments, **keywords)

    def load_model(self, **keywords: Any) -> None:
        started_s = time.perf_counter()
        super().load_model(**keywords)
        self._load_s = time.perf_counter() - started_s

    def compile_or_warm_up_model(self) -> Any:
        capture = self.model_runner.capture_model

        def timed_capture() -> int:
            started_s = time.perf_counter()
            self._graph_bytes = capture()
            self._capture_s = time.perf_counter() - started_s
            return self._graph_bytes

        self.model_runner.capture_model = timed_capture
        try:
            return super().compile_or_warm_up_model()
        finally:
            del self.model_runner.capture_model  # the class's own method again

    def start_times(self) -> dict[str, float]:
        """Seconds; `created_s` is a reading of `time.perf_counter`."""
        return {
            "created_s": self._created_s,
            "load_s": self._load_s,
            "compile_s": self.compilation_config.compilation_time,
            "capture_s": self._capture_s,
        }

    def reset_peak_memory(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def memory(self) -> dict[str, int]:
        """Peaks of torch's allocator since `reset_peak_memory`, and what the capture took from the device. Bytes."""
        return {
            "device_allocated_bytes": torch.cuda.max_memory_allocated(),
            "device_reserved_bytes": torch.cuda.max_memory_reserved(),
            "graph_bytes": self._graph_bytes,
        }

    def counters(self) -> dict[str, float]:
        """CUDA graphs captured and graphs compiled by Dynamo in this process."""
        from torch._dynamo.utils import counters

        return {
            "captures": compilation_counter.num_cudagraph_captured,
            "recompiles": counters["stats"]["unique_graphs"],
        }

    def settings(self) -> dict[str, str | int | float | bool]:
        """What vLLM chose for this model, plan and device."""
        config, cache, scheduler = self.vllm_config, self.cache_config, self.scheduler_config
        compilation = config.compilation_config
        backends = sorted({group.backend.get_name() for groups in self.model_runner.attn_groups for group in groups})
        return {
            "architecture": self.model_config.architecture,
            "attention_backend": ", ".join(backends),
            "flash_attention_version": flash_attention_version() if "FLASH_ATTN" in backends else 0,
            "model_runner": "V2" if config.use_v2_model_runner else "V1",
            "compilation_mode": compilation.mode.name,
            "cudagraph_mode": compilation.cudagraph_mode.name,
            "cudagraph_capture_sizes": " ".join(map(str, compilation.cudagraph_capture_sizes)),
            "optimization_level": config.optimization_level.name,
            "async_scheduling": bool(scheduler.async_scheduling),
            "chunked_prefill": bool(scheduler.enable_chunked_prefill),
            "prefix_caching": bool(cache.enable_prefix_caching),
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
            "max_num_seqs": scheduler.max_num_seqs,
            "kv_block_size": cache.block_size,
            "kv_blocks": cache.num_gpu_blocks,
            "kv_cache_bytes": cache.kv_cache_memory_bytes,
            "kv_cache_dtype": str(cache.cache_dtype),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }


def flash_attention_version() -> int:
    """2, 3 or 4; 0 where vLLM cannot tell."""
    from vllm.v1.attention.backends.fa_utils import get_flash_attn_version

    return get_flash_attn_version() or 0
