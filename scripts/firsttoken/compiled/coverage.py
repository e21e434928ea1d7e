"""Which models our own decoder computes, and where. Needs no triton."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

COVERED = ("llama", "mistral", "qwen2", "qwen3", "phi3")  # model types of transformers
STATIC_ROPE = ("default", "linear", "llama3", "yarn")  # whose angles do not depend on the text's length
LARGEST_INPUT = 32768  # columns of a weight: a program holds the whole input row in registers
SMALLEST_HEAD = 16  # a tensor core's products are at least so deep


def uncovered(config: Any, dtype: torch.dtype, device: torch.device) -> str:
    """Why `Decoder` cannot compute the model of this config; "" where it can."""
    text = config.get_text_config()
    if text.model_type not in COVERED:
        return f"no decoder of ours for {text.model_type}"
    head_dim = head_size(text)
    rope = getattr(text, "rope_parameters", None) or {}
    sizes = (text.hidden_size, text.intermediate_size, text.num_attention_heads * head_dim)
    if text.hidden_act != "silu":
        return f"the gate's function is {text.hidden_act}, not silu"
    rotated = rope.get("partial_rotary_factor", getattr(text, "partial_rotary_factor", 1.0))
    if rope.get("rope_type", "default") not in STATIC_ROPE or rotated != 1.0:
        return f"rotary positions of type {rope.get('rope_type')} over {rotated:g} of each head"
    if head_dim & (head_dim - 1) or head_dim < SMALLEST_HEAD:
        return f"heads of {head_dim}, not a power of two from {SMALLEST_HEAD}"
    if max(sizes) > LARGEST_INPUT or any(size * dtype.itemsize % 16 for size in sizes):
        return f"products over {', '.join(map(str, sizes))} columns"
    if dtype == torch.float32 and device.type == "cuda":
        return "float32: no tensor cores that keep all of its digits"
    return ""


def triton_problem(device: torch.device) -> str:
    """Why Triton cannot compile for this device; "" where it can. On a CPU it only runs in its interpreter, as in the
    tests (TRITON_INTERPRET=1)."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return "" if major >= 8 else f"compute capability {major}.{minor} is under 8.0"
    import triton

    return "" if triton.knobs.runtime.interpret else f"Triton cannot compile for this device ({device.type})"


def head_size(text: Any) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
