"""The decode kernels against the same mathematics in float32; for the interpreter and for a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# Largest error as a share of the largest number: rounding of the result, and of the new key, in each dtype.
SHARE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
EPSILON = 1e-5


@dataclass(frozen=True)
class RowCase:
    rows: int
    columns: int
    norm: bool = False
    gain: bool = False
    bias: bool = False
    gated: bool = False
    residual: bool = False
    int8: bool = False
    at_once: int = 2
    warps: int = 4
    programs: int = 2


@dataclass(frozen=True)
class AttentionCase:
    heads: int
    kv_heads: int
    head_dim: int
    position: int
    bucket: int
    window: int | None = None
    norms: bool = False


def normed(x: Any, gain: Any = None) -> Any:
    x = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + EPSILON)
    return x if gain is None else x * gain


def check(found: Any, wanted: Any) -> None:
    error = float((found.float() - wanted).abs().max() / wanted.abs().max())
    assert error < SHARE[found.dtype], error


def rope_applied(rows: Any, gain: Any, cosine: Any, sine: Any) -> Any:
    """Norm (with a gain) and rotary position of vectors `[..., dim]`, float32."""
    rows = rows.float() if gain is None else normed(rows, gain)
    half = rows.shape[-1] // 2
    return rows * cosine.float() + torch.cat([-rows[..., half:], rows[..., :half]], -1) * sine.float()


def check_linear_row(case: RowCase, device: Any, dtype: Any) -> None:
    from firsttoken.compiled.decode import linear_row
    from firsttoken.compiled.int8 import dequantised, quantised
    from firsttoken.compiled.tiles import Linear, TileConfig

    torch.manual_seed(3)
    tall = case.rows * (2 if case.gated else 1)

    def made(*size: int) -> Any:
        return torch.randn(*size, device=device).to(dtype)

    weight, x, residual = made(tall, case.columns) * case.columns**-0.5, made(1, case.columns), made(1, case.rows)
    bias = made(tall) if case.bias else None
    gain = torch.rand(case.columns, device=device) + 0.5 if case.gain else None
    linear = Linear(weight, bias, EPSILON if case.norm else None, gain, case.gated, case.residual)
    if case.int8:
        linear = quantised(linear)
        weight = dequantised(linear, torch.float32)
    out = torch.full((1, case.rows), torch.nan, dtype=dtype, device=device)
    config = TileConfig(case.at_once, case.warps, case.programs)
    assert linear_row(linear, x, config, residual if case.residual else None, out) is out
    wanted = (normed(x, gain) if case.norm else x.float()) @ weight.float().t()
    wanted = wanted if bias is None else wanted + bias.float()
    if case.gated:
        wanted = torch.nn.functional.silu(wanted[:, : case.rows]) * wanted[:, case.rows :]
    check(out, wanted + residual.float() if case.residual else wanted)


def check_attention_row(case: AttentionCase, device: Any, dtype: Any) -> None:
    from firsttoken.compiled.decode import attention_row
    from firsttoken.compiled.tiles import Attention

    torch.manual_seed(5)
    at, dim, groups = case.position, case.head_dim, case.heads // case.kv_heads

    def made(*size: int) -> Any:
        return torch.randn(*size, device=device).to(dtype)

    keys, values = (made(1, case.kv_heads, case.bucket + 8, dim) for _ in range(2))
    qkv = made(1, (case.heads + 2 * case.kv_heads) * dim)
    angle = torch.rand(case.bucket + 8, dim // 2, device=device).repeat(1, 2) * 6
    table = angle.cos().to(dtype), angle.sin().to(dtype)
    cosine, sine = table[0][at], table[1][at]
    gains = [torch.rand(dim, device=device) + 0.5 if case.norms else None for _ in range(2)]
    old_keys, old_values = keys.clone(), values.clone()
    position = torch.tensor([at], device=device)
    attention = Attention(
        case.heads, case.kv_heads, dim**-0.5, *table, window=case.window, q_gain=gains[0], k_gain=gains[1],
        epsilon=EPSILON,
    )  # fmt: skip
    found = attention_row(attention, qkv, keys, values, position, case.bucket)

    query, key, value = qkv.view(-1, dim).split([case.heads, case.kv_heads, case.kv_heads])
    new_key = rope_applied(key, gains[1], cosine, sine).to(dtype)
    check(keys[0, :, at], new_key.float())
    assert torch.equal(values[0, :, at], value)
    first = 0 if case.window is None else max(0, at - case.window + 1)
    old_keys[0, :, at], old_values[0, :, at] = new_key, value
    keys[0, :, at], values[0, :, at] = new_key, value
    assert torch.equal(keys, old_keys), "a cache position was written that is not the token's"
    assert torch.equal(values, old_values), "a cache position was written that is not the token's"
    seen_keys = old_keys[0, :, first : at + 1].float().repeat_interleave(groups, 0)
    seen_values = old_values[0, :, first : at + 1].float().repeat_interleave(groups, 0)
    scores = torch.einsum("hd,hnd->hn", rope_applied(query, gains[0], cosine, sine), seen_keys) * dim**-0.5
    check(found.view(case.heads, dim), torch.einsum("hn,hnd->hd", scores.softmax(-1), seen_values))
