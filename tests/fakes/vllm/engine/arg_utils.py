"""vllm/engine/arg_utils.py: `EngineArgs`, all 214 of its fields, and what `create_engine_config` makes of ours.

A default that is an object of vLLM's (a configuration, an enumeration) stands as `object`.
"""

from __future__ import annotations

import json
from dataclasses import field, make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vllm.usage.usage_lib import UsageContext

NONE = """
    served_model_name tokenizer hf_config_path allowed_media_domains download_dir safetensors_load_strategy
    max_model_len cudagraph_capture_sizes max_cudagraph_capture_size distributed_executor_backend
    distributed_timeout_seconds cpu_distributed_timeout_seconds numa_bind_nodes numa_bind_cpus device_ids
    data_parallel_rank data_parallel_start_rank data_parallel_size_local data_parallel_address
    data_parallel_rpc_port disable_nccl_for_dp_synchronization max_parallel_loading_workers block_size
    enable_prefix_caching kv_cache_memory_bytes max_num_batched_tokens max_num_seqs revision code_revision hf_token
    tokenizer_revision quantization quantization_config mm_processor_kwargs mm_encoder_attn_backend
    mm_encoder_attn_dtype mm_encoder_fp8_scale_path mm_encoder_fp8_scale_save_path io_processor_plugin
    video_pruning_rate default_mm_loras max_cpu_loras lora_target_modules num_gpu_blocks_override
    enable_chunked_prefill disable_hybrid_kv_cache_manager reasoning_parser_plugin speculative_config spec_method
    spec_model spec_tokens diffusion_config show_hidden_metrics_for_version otlp_traces_endpoint
    collect_detailed_traces scheduler_cls pooler_config enable_flashinfer_autotune kv_transfer_config
    kv_events_config ec_transfer_config reasoning_config override_attention_dtype attention_backend mamba_block_size
    logits_processors async_scheduling kv_offloading_size weight_transfer_config gdn_prefill_backend
"""
FALSE = """
    enable_return_routed_experts skip_tokenizer_init enable_prompt_embeds trust_remote_code numa_bind
    data_parallel_hybrid_lb data_parallel_external_lb data_parallel_multi_port_external_lb enable_expert_parallel
    enable_ep_weight_filter enable_elastic_ep enable_dbo enable_eplb disable_sliding_window use_fp64_gumbel
    disable_log_stats aggregate_engine_logging allow_deprecated_quantization enforce_eager disable_custom_all_reduce
    language_model_only enable_mm_embeds interleave_mm_strings mm_encoder_only skip_mm_profiling enable_lora
    fully_sharded_loras enable_tower_connector_lora specialize_active_lora enable_mixed_moe_lora_format
    ray_workers_use_nsight disable_chunked_mm_input kv_cache_metrics cudagraph_metrics enable_layerwise_nvtx_tracing
    enable_mfu_metrics enable_logging_iteration_details jit_monitor_verbose enable_mm_processor_stats
    enable_sleep_mode enable_cumem_allocator calculate_kv_scales enable_mamba_cache_stochastic_rounding
    kv_sharing_fast_prefill tokens_only fail_on_environ_validation
"""
TRUE = """
    disable_cascade_attn scheduler_reserve_full_isl use_tqdm_on_load
"""
OBJECTS = """
    safetensors_prefetch_num_threads safetensors_prefetch_block_size ir_op_priority eplb_config cpu_offload_params
    offload_params hf_overrides limit_mm_per_prompt media_io_kwargs model_loader_extra_config ignore_patterns
    structured_outputs_config compilation_config attention_config mamba_config kernel_config profiler_config
    override_generation_config kv_cache_dtype_skip_layers mamba_backend additional_config optimization_level
"""
VALUES: dict[str, Any] = {
    "model": "Qwen/Qwen3-0.6B",
    "model_weights": "",
    "allowed_local_media_path": "",
    "reasoning_parser": "",
    "worker_extension_cls": "",
    "runner": "auto",
    "convert": "auto",
    "tokenizer_mode": "auto",
    "load_format": "auto",
    "config_format": "auto",
    "dtype": "auto",
    "kv_cache_dtype": "auto",
    "moe_backend": "auto",
    "linear_backend": "auto",
    "offload_backend": "auto",
    "lora_dtype": "auto",
    "worker_cls": "auto",
    "generation_config": "auto",
    "model_impl": "auto",
    "mamba_cache_dtype": "auto",
    "mamba_ssm_cache_dtype": "auto",
    "seed": 0,
    "node_rank": 0,
    "ubatch_size": 0,
    "_api_process_rank": 0,
    "cpu_offload_gb": 0,
    "offload_group_size": 0,
    "long_prefill_token_threshold": 0,
    "mamba_cache_philox_rounds": 0,
    "shutdown_timeout": 0,
    "pipeline_parallel_size": 1,
    "nnodes": 1,
    "tensor_parallel_size": 1,
    "prefill_context_parallel_size": 1,
    "decode_context_parallel_size": 1,
    "dcp_kv_cache_interleave_size": 1,
    "cp_kv_cache_interleave_size": 1,
    "data_parallel_size": 1,
    "_api_process_count": 1,
    "offload_num_in_group": 1,
    "offload_prefetch_step": 1,
    "max_num_partial_prefills": 1,
    "max_long_partial_prefills": 1,
    "renderer_num_workers": 1,
    "max_loras": 1,
    "prefill_schedule_interval": 1,
    "stream_interval": 1,
    "master_addr": "127.0.0.1",
    "master_port": 29501,
    "dcp_comm_backend": "ag_rs",
    "data_parallel_backend": "mp",
    "all2all_backend": "allgather_reducescatter",
    "dbo_decode_token_threshold": 32,
    "dbo_prefill_token_threshold": 512,
    "expert_placement_strategy": "linear",
    "prefix_caching_hash_algo": "sha256",
    "gpu_memory_utilization": 0.92,
    "max_logprobs": 20,
    "logprobs_mode": "raw_logprobs",
    "mm_processor_cache_gb": 4,
    "mm_processor_cache_type": "lru",
    "mm_shm_cache_max_object_size_mb": 128,
    "mm_encoder_tp_mode": "weights",
    "mm_encoder_fp8_scale_save_margin": 1.5,
    "mm_tensor_ipc": "direct_rpc",
    "max_lora_rank": 16,
    "watermark": 0.0,
    "kv_cache_metrics_sample": 0.01,
    "scheduling_policy": "fcfs",
    "mamba_cache_mode": "none",
    "pt_load_map_location": "cpu",
    "performance_mode": "balanced",
    "kv_offloading_backend": "native",
}
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(NONE.split(), None),
    **dict.fromkeys(FALSE.split(), False),
    **dict.fromkeys(TRUE.split(), True),
    **{name: object() for name in OBJECTS.split()},
    **VALUES,
}
MODELS = ("LlamaForCausalLM", "GPT2LMHeadModel")  # that the stand-in knows
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class _Methods:
    """What a dataclass made of names alone lacks."""

    def create_engine_config(self, usage_context: UsageContext | None = None, headless: bool = False) -> Any:
        config = json.loads((Path(self.model) / "config.json").read_text())  # type: ignore[attr-defined]
        return make_config(self, config, usage_context)


EngineArgs = make_dataclass(
    "EngineArgs", [(name, Any, field(default=value)) for name, value in DEFAULTS.items()], bases=(_Methods,)
)


def make_config(arguments: Any, hf: dict[str, Any], usage_context: UsageContext | None) -> Any:
    """The parts of `VllmConfig` that are read. Raises ValueError as vLLM's own checks do."""
    if not arguments.skip_tokenizer_init:
        raise ValueError("the stand-in loads no tokenizer")
    (architecture,) = hf["architectures"]
    if architecture not in MODELS:
        raise ValueError(f"Model architectures {hf['architectures']} are not supported for now.")
    longest = hf.get("max_position_embeddings") or hf["n_positions"]
    if arguments.max_model_len > longest:
        raise ValueError(f"User-specified max_model_len ({arguments.max_model_len}) is greater than {longest}")
    served = usage_context == UsageContext.OPENAI_API_SERVER
    batched = arguments.max_num_batched_tokens or min(
        arguments.max_num_seqs * arguments.max_model_len, 8192 if served else 2048
    )
    largest = arguments.max_cudagraph_capture_size or min(2 * arguments.max_num_seqs, 512)
    largest = min(largest, batched)
    sizes = {size for size in (1, 2, 4, *range(8, 257, 8), *range(256, 513, 16)) if size <= largest}
    heads = hf.get("num_attention_heads") or hf["n_head"]
    layers = hf.get("num_hidden_layers") or hf["n_layer"]
    head_size = hf.get("head_dim") or (hf.get("hidden_size") or hf["n_embd"]) // heads
    return SimpleNamespace(
        arguments=arguments,
        use_v2_model_runner=architecture == "LlamaForCausalLM",
        optimization_level=SimpleNamespace(name="O2"),
        model_config=SimpleNamespace(
            architecture=architecture,
            max_model_len=arguments.max_model_len,
            max_logprobs=arguments.max_logprobs,
            bytes_per_value=DTYPE_BYTES[arguments.dtype],
            get_num_layers=lambda parallel: layers,
            get_num_kv_heads=lambda parallel: hf.get("num_key_value_heads") or heads,
            get_head_size=lambda: head_size,
            get_vocab_size=lambda: hf["vocab_size"],
        ),
        parallel_config=SimpleNamespace(worker_cls=arguments.worker_cls),
        scheduler_config=SimpleNamespace(
            async_scheduling=True, enable_chunked_prefill=True, max_num_batched_tokens=batched,
            max_num_seqs=arguments.max_num_seqs,
        ),
        cache_config=SimpleNamespace(
            enable_prefix_caching=arguments.enable_prefix_caching is not False, block_size=16, num_gpu_blocks=None,
            kv_cache_memory_bytes=arguments.kv_cache_memory_bytes, cache_dtype=arguments.kv_cache_dtype,
        ),
        compilation_config=SimpleNamespace(
            mode=SimpleNamespace(name="VLLM_COMPILE"), cudagraph_mode=SimpleNamespace(name="FULL_AND_PIECEWISE"),
            cudagraph_capture_sizes=sorted({*sizes, largest}), compilation_time=0.0,
        ),
    )  # fmt: skip
