"""Attention with its own KV cache, written so that a compiler can fuse it into the step.

Registered in transformers under `ATTENTION`. It has no mask function there, so no mask is built or read: at decode
the function compares positions itself, at prefill it is causal. The cache hangs on each attention module as `LayerKV`
and is written here, so that every decoder layer is the same code over its own tensors: one compilation serves them
all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from firsttoken.plan import Unsupported

ATTENTION = "firsttoken_compiled"

# Arguments that say nothing about the result here: no dropout in evaluation, positions are already in query and key.
IGNORED = {"dropout", "position_ids", "use_cache", "output_attentions", "is_causal", "cache_position", "training"}


@dataclass
class DecodeView:
    """How decode reads the cache, shared by all layers: the first `bucket` positions, by which form of attention."""

    bucket: int = 0
    form: str = "plain"  # plain: matrix products and softmax for the compiler; sdpa: torch's kernel with a mask


class LayerKV:
    """Keys and values of one layer, `[1, kv_heads, positions, head_dim]`, and where decode writes, int64 `[1]`."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor, view: DecodeView) -> None:
        self.keys, self.values, self.position, self.view = keys, values, position, view
        self.call: AttentionCall | None = None  # how the module calls `attend`, where a trial has found it out


@dataclass
class AttentionCall:
    """What a trial run found out about one attention module."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    scaling: float
    window: int | None
    softcap: float | None


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """`query` `[1, heads, L, d]`, `key`, `value` `[1, kv_heads, L, d]` -> `[1, L, heads, d]`; L = 1: a decode step."""
    for name, given in others.items():
        if name not in IGNORED and given is not None:
            raise Unsupported(
                f"attention of {type(module).__name__} takes {name}, which compiled_graph does not compute"
            )
    if attention_mask is not None:
        raise Unsupported(f"{type(module).__name__} builds an attention mask of its own")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    kv: LayerKV | None = getattr(module, "layer_kv", None)
    if kv is None:
        module.found_call = AttentionCall(
            query.shape[1], key.shape[1], key.shape[3], value.shape[3], key.dtype, scaling, sliding_window, softcap
        )
        output = _attend_all(query, key, value, scaling, sliding_window, softcap)
    elif query.shape[2] == 1:
        kv.keys.index_copy_(2, kv.position, key)
        kv.values.index_copy_(2, kv.position, value)
        output = _attend_one(kv, query, scaling, sliding_window, softcap)
    else:
        kv.keys[:, :, : key.shape[2]].copy_(key)
        kv.values[:, :, : key.shape[2]].copy_(value)
        output = _attend_all(query, key, value, scaling, sliding_window, softcap)
    return output.transpose(1, 2).contiguous(), None


def _attend_one(
    kv: LayerKV, query: torch.Tensor, scaling: float, window: int | None, softcap: float | None
) -> torch.Tensor:
    """One query at `kv.position` over the bucket; grouped queries stay grouped, so keys are never copied per head."""
    bucket = kv.view.bucket
    keys, values = kv.keys[0, :, :bucket], kv.values[0, :, :bucket]
    index = torch.arange(bucket, device=query.device)
    seen = index <= kv.position
    if window is not None:
        seen = seen & (index > kv.position - window)
    grouped = query.view(keys.shape[0], query.shape[1] // keys.shape[0], query.shape[3])
    if kv.view.form == "sdpa" and softcap is None:
        output = functional.scaled_dot_product_attention(
            grouped[None], keys[None], values[None], attn_mask=seen[None, None, None], scale=scaling
        )
    else:
        scores = torch.matmul(grouped, keys.transpose(1, 2)).float() * scaling
        probabilities = torch.softmax(_cap(scores, softcap).masked_fill(~seen, float("-inf")), dim=-1)
        output = torch.matmul(probabilities.to(values.dtype), values)
    return output.view(1, query.shape[1], 1, values.shape[2])


def _attend_all(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """A whole prompt over itself. What lies right of the last true token is padding, which causality hides."""
    length = query.shape[2]
    groups = query.shape[1] // key.shape[1]
    if softcap is None and (window is None or length <= window):
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=groups > 1
        )
    index = torch.arange(length, device=query.device)
    seen = index[None, :] <= index[:, None]
    if window is not None:
        seen = seen & (index[None, :] > index[:, None] - window)
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if softcap is None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling)
    scores = torch.matmul(query, key.transpose(2, 3)).float() * scaling
    probabilities = torch.softmax(_cap(scores, softcap).masked_fill(~seen, float("-inf")), dim=-1)
    return torch.matmul(probabilities.to(value.dtype), value)


def _cap(scores: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def attach_cache(model: Any, max_context: int, position: torch.Tensor, view: DecodeView) -> int:
    """Switch `model` to `attend` and give each attention module its cache, found by a trial run of one token.

    Returns the bytes of the cache. Raises Unsupported where the model does not go through transformers' attention
    interface, or asks it for something that `attend` does not compute.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
    trial = torch.zeros(1, 1, dtype=torch.int64, device=position.device)
    model(input_ids=trial, position_ids=trial, use_cache=False)
    modules = [module for module in model.modules() if hasattr(module, "found_call")]
    layers = model.config.get_text_config().num_hidden_layers
    if len(modules) != layers:
        raise Unsupported(
            f"{type(model).__name__}: {len(modules)} of {layers} layers use transformers' attention interface"
        )
    total = 0
    for module in modules:
        call: AttentionCall = module.found_call
        del module.found_call
        keys, values = (
            torch.zeros(1, call.kv_heads, max_context, dim, dtype=call.dtype, device=position.device)
            for dim in (call.key_dim, call.value_dim)
        )
        module.layer_kv = LayerKV(keys, values, position, view)
        module.layer_kv.call = call
        total += keys.nbytes + values.nbytes
    return total
