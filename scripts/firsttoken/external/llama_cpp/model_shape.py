"""What llama.cpp has to know of a model, from its config.json as transformers 4 or 5 writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firsttoken.plan import Unsupported

if TYPE_CHECKING:
    import numpy as np

# architecture in config.json -> llama.cpp's name
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


@dataclass(frozen=True)
class Rope:
    """Rotary positions: `theta`, and `kind` (default, linear or llama3) with its parameters."""

    theta: float
    kind: str
    parameters: dict[str, float]


@dataclass(frozen=True)
class Shape:
    """What config.json says of a model that llama.cpp has to know."""

    architecture: str  # a value of ARCHITECTURES
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_context: int
    rms_norm_eps: float
    tied: bool
    window: int  # positions that its narrowest layer attends to; 0: all
    rope: Rope


def read_shape(config: dict[str, Any]) -> Shape:
    """The shape of a model from its config.json, as transformers 4 or 5 writes it. Raises `Unsupported` with one
    sentence for what llama.cpp or this converter cannot represent."""
    name = str((config.get("architectures") or ["(none named in config.json)"])[0])
    if name not in ARCHITECTURES:
        raise Unsupported(f"no GGUF file is written for {name}, only for {', '.join(ARCHITECTURES)}")
    if config.get("hidden_act", "silu") != "silu":
        raise Unsupported(f"llama.cpp computes {name} with silu, the model has {config['hidden_act']}")
    for key in ("max_position_embeddings", "rms_norm_eps"):
        if key not in config:
            raise Unsupported(f"config.json has no {key}, which a GGUF file needs")
    architecture, rope = ARCHITECTURES[name], read_rope(config)
    if rope.kind == "llama3" and architecture != "llama":
        raise Unsupported(f"llama.cpp's {architecture} has no rotary positions of type llama3")
    if config.get("attention_bias") and architecture == "qwen3":
        raise Unsupported("llama.cpp's qwen3 has no biases of the attention")
    heads = int(config["num_attention_heads"])
    return Shape(
        architecture=architecture,
        layers=int(config["num_hidden_layers"]),
        hidden=int(config["hidden_size"]),
        intermediate=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
        vocab=int(config["vocab_size"]),
        max_context=int(config["max_position_embeddings"]),
        rms_norm_eps=float(config["rms_norm_eps"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        window=_window(config),
        rope=rope,
    )


def _window(config: dict[str, Any]) -> int:
    window = config.get("sliding_window") or 0
    if not config.get("use_sliding_window", True):
        return 0
    types = config.get("layer_types")
    return 0 if types and "sliding_attention" not in types else int(window)


def read_rope(config: dict[str, Any]) -> Rope:
    """Rotary positions from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (4).

    Raises `Unsupported` for kinds that are not converted.
    """
    found = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    if any(isinstance(value, dict) for value in found.values()):
        raise Unsupported("the model's rotary positions differ by layer type, which llama.cpp's Llama cannot represent")
    theta = found.pop("rope_theta", None) or config.get("rope_theta") or 10000.0
    kind = str(found.pop("rope_type", None) or found.pop("type", None) or "default")
    if kind not in ("default", "linear", "llama3"):
        raise Unsupported(f"rotary positions of type {kind} are not converted to GGUF; default, linear and llama3 are")
    if found.get("partial_rotary_factor") not in (None, 1.0) or config.get("partial_rotary_factor") not in (None, 1.0):
        raise Unsupported("llama.cpp rotates whole heads in this architecture, the model rotates a part")
    numbers = {key: float(value) for key, value in found.items() if isinstance(value, (int, float))}
    return Rope(theta=float(theta), kind=kind, parameters=numbers)


def llama3_factors(rope: Rope, head_dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """By how much Llama 3's scaling divides each frequency, float32 `[head_dim / 2]`.

    Wavelengths under `original_max_position_embeddings / high_freq_factor` stay, those over `.../ low_freq_factor` are
    divided by `factor`, those between are interpolated (transformers' modeling_rope_utils.py, llama3).
    """
    import numpy as np

    factor, low, high = (rope.parameters[key] for key in ("factor", "low_freq_factor", "high_freq_factor"))
    original = rope.parameters["original_max_position_embeddings"]
    frequency = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    turns = original * frequency / (2 * np.pi)  # within the original context
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / (share + (1.0 - share) / factor)).astype(np.float32)
