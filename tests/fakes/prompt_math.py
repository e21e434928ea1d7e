"""The prefill kernels against the same mathematics in float32; for the interpreter and for a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fakes.decode_math import EPSILON, check, normed, rope_applied


@dataclass(frozen=True)
class ProductCase:
    count: int
    rows: int
    columns: int
    norm: bool = False
    bias: bool = False
    gated: bool = False
    residual: bool = False
    int8: bool = False


@dataclass(frozen=True)
class PromptCase:
    heads: int
    kv_heads: int
    head_dim: int
    count: int
    window: int | None = None
    norms: bool = False


def check_linear_rows(case: ProductCase, device: Any, dtype: Any) -> None:
    from firsttoken.compiled.int8 import dequantised, quantised
    from firsttoken.compiled.prefill import add_linear_rows, add_norm_rows, linear_rows
    from firsttoken.compiled.tiles import Linear

    torch.manual_seed(3)
    tall = case.rows * (2 if case.gated else 1)

    def made(*size: int) -> Any:
        return torch.randn(*size, device=device).to(dtype)

    weight, x, residual = made(tall, case.columns) * case.columns**-0.5, made(case.count, case.columns), None
    if case.residual:
        residual = made(case.count, case.rows)
    bias = made(tall) if case.bias else None
    linear = Linear(weight, bias, EPSILON if case.norm else None, None, case.gated, case.residual)
    if case.int8:
        linear = quantised(linear)
        weight = dequantised(linear, torch.float32)
    wanted = (normed(x).to(dtype) if case.norm else x).float() @ weight.float().t()
    wanted = wanted if bias is None else wanted + bias.float()
    if case.gated:
        wanted = torch.nn.functional.silu(wanted[:, : case.rows]) * wanted[:, case.rows :]
    wanted = wanted if residual is None else wanted + residual.float()
    before = x.clone()
    rows = add_norm_rows(x, None, linear.epsilon)
    if residual is None:
        found = linear_rows(linear, rows)
    else:
        found = add_norm_rows(residual, add_linear_rows(linear, rows, residual), epsilon=None)
    check(found, wanted)
    assert torch.equal(x, before)


def check_attention_rows(case: PromptCase, device: Any, dtype: Any) -> None:
    from firsttoken.compiled.prefill import attention_rows
    from firsttoken.compiled.tiles import Attention

    torch.manual_seed(5)
    count, dim, groups = case.count, case.head_dim, case.heads // case.kv_heads

    def made(*size: int) -> Any:
        return torch.randn(*size, device=device).to(dtype)

    keys, values = (made(1, case.kv_heads, count + 8, dim) for _ in range(2))
    old_keys, old_values = keys.clone(), values.clone()
    qkv = made(count, (case.heads + 2 * case.kv_heads) * dim)
    angle = torch.rand(count, dim // 2, device=device).repeat(1, 2) * 6
    cosine, sine = angle.cos().to(dtype), angle.sin().to(dtype)
    gains = [torch.rand(dim, device=device) + 0.5 if case.norms else None for _ in range(2)]
    attention = Attention(
        case.heads, case.kv_heads, dim**-0.5, cosine, sine, window=case.window, q_gain=gains[0], k_gain=gains[1],
        epsilon=EPSILON,
    )  # fmt: skip
    found = attention_rows(attention, qkv, keys, values)

    parts = qkv.view(count, -1, dim).split([case.heads, case.kv_heads, case.kv_heads], 1)
    query, key, value = (part.transpose(0, 1) for part in parts)
    new_keys = rope_applied(key, gains[1], cosine, sine).to(dtype)
    check(keys[0, :, :count], new_keys.float())
    assert torch.equal(values[0, :, :count], value)
    assert torch.equal(keys[:, :, count:], old_keys[:, :, count:]), "a position behind the prompt was written"
    assert torch.equal(values[:, :, count:], old_values[:, :, count:]), "a position behind the prompt was written"
    seen_keys, seen_values = (part.float().repeat_interleave(groups, 0) for part in (keys[0, :, :count], value))
    scores = rope_applied(query, gains[0], cosine, sine) @ seen_keys.transpose(1, 2) * dim**-0.5
    index = torch.arange(count, device=device)
    seen = index[None, :] <= index[:, None]
    if case.window is not None:
        seen &= index[None, :] > index[:, None] - case.window
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    check(found.view(count, case.heads, dim), (weights @ seen_values).transpose(0, 1))
