"""A toy model of every decoder family that transformers knows: its own config with every size made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCABULARY = 96
LAYERS = 4  # one of them attends to all in families that mix kinds
HIDDEN = 64
LARGEST = 4_000_000  # parameters; a family whose toy is larger has a size that SMALL does not know

# What families call their sizes. A field that a config has is set; the others are left alone.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input", "n_vocab"), VOCABULARY),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_decoder_layers", "num_encoder_layers"), LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "emb_dim", "embedding_size"), HIDDEN),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "kv_n_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim", "encoder_ffn_dim"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 48),
    **dict.fromkeys(("intermediate_size_mlp", "expert_ffn_hidden_size", "moe_shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "top_k_experts", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"), 128),
    **dict.fromkeys(("sliding_window", "attention_window_size", "window_size"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "v_head_dim", "qk_nope_head_dim", "head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim", "index_head_dim", "global_head_dim"), 16),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 8,
    "first_k_dense_replace": 1,
    "index_n_heads": 4,
    "index_topk": 64,
}


def toy_config(model_type: str, **fields: Any) -> Any:
    """The family's config, small, with `fields` over it."""
    from transformers import CONFIG_MAPPING

    kind: Any = CONFIG_MAPPING[model_type]
    default = kind()
    parts = {}
    for name in getattr(kind, "sub_configs", None) or {}:
        part: Any = getattr(default, name, None)
        if part is not None:
            parts[name] = {"model_type": part.model_type, **_small(part)}
    return kind(**{**_small(default), **parts, **fields})


def _small(config: Any) -> dict[str, Any]:
    named = dict(getattr(config, "attribute_map", {}))
    fields = config.to_dict()
    small = {name: value for name, value in SMALL.items() if named.get(name, name) in fields}
    if "kv_lora_rank" in fields:  # latent attention: keys and values are made for every head
        small["num_key_value_heads"] = 4
    return small


def build_toy(config: Any, seed: int = 7) -> Any:
    """A float32 model of this config in evaluation mode, its weights far enough apart that greedy choices are clear."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        values = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if values > LARGEST:
        raise ValueError(f"{config.model_type}: {values} parameters")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
        elif parameter.dim() == 1 and parameter.is_floating_point():
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.tie_weights()
    return model.eval()


def save_toy(config: Any, folder: Path) -> Path:
    """Save it with a tokenizer file, which nobody reads here."""
    build_toy(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder
