"""`BuildConfig` of tensorrt_llm/builder.py and `PluginConfig` of tensorrt_llm/plugin/plugin.py, all fields.

Names, types and defaults are `$defs.BuildConfig` and `$defs.PluginConfig` of the container's own schema (see
docs/tensorrt-llm.md); types that a study never touches stand as `object`. Neither forbids unknown keywords there
(`additionalProperties` is not false), so that neither does here: they vanish.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ._strict import Strict

PluginDtype = Literal["auto", "float16", "float32", "bfloat16", "int32", None]
Fp8Only = Literal["fp8", None]


class PluginConfig(Strict):
    ignore_unknown: ClassVar[bool] = True

    dtype: str = "float16"
    bert_attention_plugin: PluginDtype = "auto"
    gpt_attention_plugin: PluginDtype = "auto"
    gemm_plugin: Literal["auto", "float16", "float32", "bfloat16", "int32", "fp8", "nvfp4", None] = None
    gemm_swiglu_plugin: Fp8Only = None
    fp8_rowwise_gemm_plugin: PluginDtype = None
    qserve_gemm_plugin: PluginDtype = None
    identity_plugin: PluginDtype = None
    nccl_plugin: PluginDtype = "auto"
    lora_plugin: PluginDtype = None
    dora_plugin: bool = False
    weight_only_groupwise_quant_matmul_plugin: PluginDtype = None
    weight_only_quant_matmul_plugin: PluginDtype = None
    smooth_quant_plugins: bool = True
    smooth_quant_gemm_plugin: PluginDtype = None
    layernorm_quantization_plugin: PluginDtype = None
    rmsnorm_quantization_plugin: PluginDtype = None
    quantize_per_token_plugin: bool = False
    quantize_tensor_plugin: bool = False
    moe_plugin: PluginDtype = "auto"
    mamba_conv1d_plugin: PluginDtype = "auto"
    low_latency_gemm_plugin: Fp8Only = None
    low_latency_gemm_swiglu_plugin: Fp8Only = None
    gemm_allreduce_plugin: Literal["float16", "bfloat16", None] = None
    context_fmha: bool = True
    bert_context_fmha_fp32_acc: bool = False
    paged_kv_cache: bool | None = None
    remove_input_padding: bool = True
    norm_quant_fusion: bool = False
    reduce_fusion: bool = False
    user_buffer: bool = False
    tokens_per_block: int = 32
    use_paged_context_fmha: bool = True
    use_fp8_context_fmha: bool = True
    fuse_fp4_quant: bool = False
    multiple_profiles: bool = False
    paged_state: bool = True
    streamingllm: bool = False
    manage_weights: bool = False
    use_fused_mlp: bool = True
    pp_reduce_scatter: bool = False

    def __getattribute__(self, name: str) -> Any:
        """ "auto" reads back as the dtype."""
        value = object.__getattribute__(self, name)
        return self.dtype if name != "dtype" and value == "auto" else value


class BuildConfig(Strict):
    ignore_unknown: ClassVar[bool] = True

    max_input_len: int = 1024
    max_seq_len: int | None = None
    opt_batch_size: int = 8
    max_batch_size: int = 2048
    max_beam_width: int = 1
    max_num_tokens: int = 8192
    opt_num_tokens: int | None = None
    max_prompt_embedding_table_size: int = 0
    kv_cache_type: object | None = None
    gather_context_logits: bool = False
    gather_generation_logits: bool = False
    strongly_typed: bool = True
    force_num_profiles: int | None = None
    profiling_verbosity: str = "layer_names_only"
    enable_debug_output: bool = False
    max_draft_len: int = 0
    speculative_decoding_mode: object = 1
    use_refit: bool = False
    input_timing_cache: str | None = None
    output_timing_cache: str = "model.cache"
    lora_config: object = None
    weight_sparsity: bool = False
    weight_streaming: bool = False
    plugin_config: PluginConfig = PluginConfig()
    use_strip_plan: bool = False
    max_encoder_input_len: int = 1024
    dry_run: bool = False
    visualize_network: str | None = None
    monitor_memory: bool = False
    use_mrope: bool = False
