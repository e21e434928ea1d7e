"""tensorrt_llm/builder.py, class BuildConfig; tensorrt_llm/plugin/plugin.py, class PluginConfig."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tensorrt_llm._strict import Strict

PluginDtype = Literal["auto", "float16", "float32", "bfloat16", "int32", None]


class PluginConfig(Strict):
    """`model_config = ConfigDict(validate_assignment=True, extra="ignore")`: unknown constructor keywords vanish."""

    ignore_unknown: ClassVar[bool] = True

    dtype: str = "float16"
    gpt_attention_plugin: PluginDtype = "auto"
    gemm_plugin: Literal["auto", "float16", "float32", "bfloat16", "int32", "fp8", "nvfp4", None] = None
    context_fmha: bool = True
    paged_kv_cache: bool | None = None
    remove_input_padding: bool = True
    tokens_per_block: int = 32
    use_paged_context_fmha: bool = True
    multiple_profiles: bool = False
    use_fused_mlp: bool = True

    def __getattribute__(self, name: str) -> Any:
        """ "auto" reads back as the dtype."""
        value = object.__getattribute__(self, name)
        return self.dtype if name != "dtype" and value == "auto" else value


class BuildConfig(Strict):
    max_input_len: int = 1024
    max_seq_len: int | None = None
    opt_batch_size: int = 8
    max_batch_size: int = 2048
    max_beam_width: int = 1
    max_num_tokens: int = 8192
    opt_num_tokens: int | None = None
    gather_context_logits: bool = False
    strongly_typed: bool = True
    plugin_config: PluginConfig = PluginConfig
