"""tensorrt_llm/llmapi/llm_args.py: the arguments of both `LLM`s, and their configs.

Names, types and defaults are the properties of `TrtLlmArgs` and of `$defs.KvCacheConfig`, `$defs.SchedulerConfig` and
`$defs.ExtendedRuntimePerfKnobConfig` in the container's own schema (see docs/tensorrt-llm.md): all of them, and
`additionalProperties` is false for each. `TorchLlmArgs` has those that it shares, from `BaseLlmArgs`, and of its own
what versions before and after agree on. Types that a study never touches stand as `object`.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

from .._strict import Strict
from ..builder import BuildConfig


class CapacitySchedulerPolicy(str, Enum):  # noqa: UP042 - a StrEnum of the package strenum there
    MAX_UTILIZATION = "MAX_UTILIZATION"
    GUARANTEED_NO_EVICT = "GUARANTEED_NO_EVICT"
    STATIC_BATCH = "STATIC_BATCH"


class SchedulerConfig(Strict):
    capacity_scheduler_policy: CapacitySchedulerPolicy = CapacitySchedulerPolicy.GUARANTEED_NO_EVICT
    context_chunking_policy: object | None = None
    dynamic_batch_config: object | None = None


class KvCacheConfig(Strict):
    enable_block_reuse: bool = True
    max_tokens: int | None = None
    max_attention_window: list[int] | None = None
    sink_token_length: int | None = None
    free_gpu_memory_fraction: float | None = 0.9
    host_cache_size: int | None = None
    onboard_blocks: bool = True
    cross_kv_cache_fraction: float | None = None
    secondary_offload_min_priority: int | None = None
    event_buffer_max_size: int = 0
    attention_dp_events_gather_period_ms: int = 5
    enable_partial_reuse: bool = True
    copy_on_partial_reuse: bool = True
    use_uvm: bool = False
    max_gpu_total_bytes: int = 0
    dtype: str = "auto"
    mamba_ssm_cache_dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    tokens_per_block: int = 32


class ExtendedRuntimePerfKnobConfig(Strict):
    multi_block_mode: bool = True
    enable_context_fmha_fp32_acc: bool = False
    cuda_graph_mode: bool = False
    cuda_graph_cache_size: int = 0


class CudaGraphConfig(Strict):
    """Without batch sizes they are generated: 1 to 128."""

    batch_sizes: list[int] | None = None
    max_batch_size: int = 0
    enable_padding: bool = False

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.batch_sizes:
            self.batch_sizes, self.max_batch_size = sorted(self.batch_sizes), max(self.batch_sizes)
        else:
            self.max_batch_size = self.max_batch_size or 128
            self.batch_sizes = [size for size in (*range(1, 33), 64, 128) if size <= self.max_batch_size]


class BaseLlmArgs(Strict):
    model: str | Path = ""
    tokenizer: object | None = None
    tokenizer_mode: Literal["auto", "slow"] = "auto"
    custom_tokenizer: str | None = None
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    dtype: str = "auto"
    revision: str | None = None
    tokenizer_revision: str | None = None
    pipeline_parallel_size: int = 1
    context_parallel_size: int = 1
    gpus_per_node: int | None = None
    moe_cluster_parallel_size: int | None = None
    moe_tensor_parallel_size: int | None = None
    moe_expert_parallel_size: int | None = None
    enable_attention_dp: bool = False
    enable_lm_head_tp_in_adp: bool = False
    pp_partition: list[int] | None = None
    cp_config: object | None = None
    load_format: Literal["auto", "dummy"] = "auto"
    fail_fast_on_attention_window_too_large: bool = False
    enable_lora: bool = False
    lora_config: object | None = None
    kv_cache_config: KvCacheConfig = KvCacheConfig()
    enable_chunked_prefill: bool = False
    guided_decoding_backend: str | None = None
    batched_logits_processor: object | None = None
    iter_stats_max_iterations: int | None = None
    request_stats_max_iterations: int | None = None
    peft_cache_config: object | None = None
    scheduler_config: SchedulerConfig = SchedulerConfig()
    cache_transceiver_config: object | None = None
    sparse_attention_config: object | None = None
    speculative_config: object | None = None
    max_batch_size: int | None = None
    max_input_len: int | None = None
    max_seq_len: int | None = None
    max_beam_width: int | None = None
    max_num_tokens: int | None = 8192
    gather_generation_logits: bool = False
    num_postprocess_workers: int = 0
    postprocess_tokenizer_dir: str | None = None
    reasoning_parser: str | None = None
    decoding_config: object | None = None
    otlp_traces_endpoint: str | None = None
    backend: str | None = None
    return_perf_metrics: bool = False
    orchestrator_type: str | None = None
    env_overrides: object | None = None


class TrtLlmArgs(BaseLlmArgs):
    enable_tqdm: bool = False
    workspace: str | None = None
    enable_build_cache: object = False
    extended_runtime_perf_knob_config: ExtendedRuntimePerfKnobConfig | None = None
    calib_config: object | None = None
    quant_config: object | None = None
    embedding_parallel_mode: str = "SHARDING_ALONG_VOCAB"
    fast_build: bool = False
    build_config: BuildConfig | None = None
    enable_prompt_adapter: bool = False
    max_prompt_adapter_token: int = 0
    batching_type: object | None = None
    normalize_log_probs: bool = False


class LoadFormat(Enum):
    AUTO = 0
    DUMMY = 1
    VISION_ONLY = 2


class SamplerType(str, Enum):  # noqa: UP042 - a StrEnum of the package strenum there
    TRTLLMSampler = "TRTLLMSampler"
    TorchSampler = "TorchSampler"
    auto = "auto"


class TorchLlmArgs(BaseLlmArgs):
    garbage_collection_gen0_threshold: int = 20000
    cuda_graph_config: CudaGraphConfig | None = CudaGraphConfig()
    attention_dp_config: object | None = None
    disable_overlap_scheduler: bool = False
    moe_config: object | None = None
    attn_backend: str = "TRTLLM"
    sampler_type: str | SamplerType = SamplerType.auto
    enable_iter_perf_stats: bool = False
    enable_iter_req_stats: bool = False
    print_iter_log: bool = False
    perf_metrics_max_requests: int = 0
    batch_wait_timeout_ms: float = 0
    batch_wait_timeout_iters: int = 0
    batch_wait_max_tokens_ratio: float = 0
    torch_compile_config: object | None = None
    enable_autotuner: bool = True
    enable_layerwise_nvtx_marker: bool = False
    load_format: str | LoadFormat = LoadFormat.AUTO  # type: ignore[assignment]
    enable_min_latency: bool = False
    stream_interval: int = 1
    force_dynamic_quantization: bool = False
    allreduce_strategy: str | None = "AUTO"
    checkpoint_loader: object | None = None
    checkpoint_format: str | None = "HF"  # None, until the validator has seen that there is no loader either
    kv_connector_config: object | None = None
    mm_encoder_only: bool = False
    ray_worker_extension_cls: str | None = None
