"""vllm/v1/worker/gpu_worker.py: `Worker`, in the order in which the engine core calls it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from vllm.compilation.counter import compilation_counter


class CompilationTimes(NamedTuple):
    language_model: float
    encoder: float


class GPUModelRunner:
    def __init__(self, config: Any) -> None:
        self.config = config
        self.attn_groups: list[list[Any]] = []

    def capture_model(self) -> int:
        time.sleep(0.002)
        compilation_counter.num_cudagraph_captured += len(self.config.compilation_config.cudagraph_capture_sizes)
        return 1 << 20


class Worker:
    def __init__(
        self,
        vllm_config: Any,
        local_rank: int,
        rank: int,
        distributed_init_method: str,
        is_driver_worker: bool = False,
    ) -> None:
        self.vllm_config = vllm_config
        self.model_config, self.cache_config = vllm_config.model_config, vllm_config.cache_config
        self.scheduler_config, self.compilation_config = vllm_config.scheduler_config, vllm_config.compilation_config

    def init_device(self) -> None:
        self.model_runner = GPUModelRunner(self.vllm_config)

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        from transformers import AutoModelForCausalLM

        # Halves are slow on a CPU.
        self.model = AutoModelForCausalLM.from_pretrained(Path(self.vllm_config.arguments.model)).float().eval()

    def determine_available_memory(self) -> int:
        if not self.cache_config.kv_cache_memory_bytes:
            raise ValueError("No available memory for the cache blocks.")
        self.compilation_config.compilation_time = 0.003  # of the profile run, which compiles
        time.sleep(0.003)
        return int(self.cache_config.kv_cache_memory_bytes)

    def initialize_from_config(self, available: int) -> None:
        model = self.model_config
        values = 2 * model.get_num_layers(None) * model.get_num_kv_heads(None) * model.get_head_size()
        self.cache_config.num_gpu_blocks = available // (16 * values * model.bytes_per_value)
        # One block is the null block.
        if 16 * (self.cache_config.num_gpu_blocks - 1) < model.max_model_len:
            raise ValueError("To serve at least one request with the model's max seq len, more KV cache is needed")
        backend = SimpleNamespace(get_name=lambda: "FLASH_ATTN")
        self.model_runner.attn_groups = [[SimpleNamespace(backend=backend)]]

    def compile_or_warm_up_model(self) -> CompilationTimes:
        self.model_runner.capture_model()
        return CompilationTimes(self.compilation_config.compilation_time, 0.0)
