"""Tiny random models of several families, saved as safetensors: quick on a CPU, with every trait that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COMMON: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}

# family -> (transformers model type, fields of its config)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama_mha": ("llama", {**COMMON, "num_key_value_heads": 4}),
    "llama_gqa": ("llama", {**COMMON, "num_key_value_heads": 2}),
    "qwen3": ("qwen3", {**COMMON, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}),
    "mistral_window": ("mistral", {**COMMON, "num_key_value_heads": 2, "sliding_window": 8}),
    "gemma": ("gemma", {**COMMON, "num_key_value_heads": 1, "head_dim": 8, "tie_word_embeddings": True}),
    "gpt2": (
        "gpt2",
        {
            "vocab_size": 96,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "bos_token_id": None,
            "eos_token_id": None,
        },
    ),
}

# Those that our own decoder computes, with heads as wide as its kernels need.
HEADS: dict[str, Any] = {**COMMON, "hidden_size": 64, "num_key_value_heads": 2, "head_dim": 16}
DECODER_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "decoder_llama": ("llama", {**HEADS, "num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True}),
    "decoder_mistral": ("mistral", {**HEADS, "sliding_window": 8}),
    "decoder_qwen2": ("qwen2", {**HEADS, "sliding_window": 7, "use_sliding_window": True, "max_window_layers": 1}),
    "decoder_qwen3": ("qwen3", {**HEADS, "tie_word_embeddings": True}),
    "decoder_phi3": ("phi3", {**HEADS, "pad_token_id": 0}),
}


def build_tiny_model(family: str, seed: int = 7) -> Any:
    """A float32 model of the family in evaluation mode, with weights far enough apart that greedy choices are clear."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, fields = {**FAMILIES, **DECODER_FAMILIES}[family]
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **fields))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
            elif parameter.dim() == 1:
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    finally:
        torch.set_rng_state(generator_state)
    model.tie_weights()
    return model.eval()


def save_tiny_model(family: str, folder: Path, seed: int = 7) -> Path:
    """Save the family's model as safetensors under `folder` and return the folder."""
    build_tiny_model(family, seed).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Two words, so that its ids are below every vocabulary here."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def prompt_ids(length: int, seed: int = 0) -> list[int]:
    """`length` token ids that are not all alike."""
    return [(17 + 31 * position + 7 * position * position + seed) % 96 for position in range(length)]
