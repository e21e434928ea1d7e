"""Kernels of a decode step: matrix times one row, and attention of one query. Imports triton.

A decode step reads every weight once and does little else, so the memory must never wait. Hence few programs that stay
resident (a couple on each SM) and hold the whole input row in registers; each loads its next weight rows before it sums
those that it has. Sums are float32 and in a fixed order (no atomics).

Where the device can (DEPENDENT), a kernel is launched while the one before it still runs: it loads what no kernel of
the step writes, its first weights or the cache's earlier positions, and then waits for that kernel's results.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# (what a kernel takes has types of Triton's own, known when it is compiled)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from firsttoken.compiled.tiles import (
    CACHE_BLOCK,
    Attention,
    Linear,
    TileConfig,
    dependent_launch,
    next_power,
    num_sms,
    split_counts,
)
from firsttoken.compiled.unpack import float_bytes

MASKED = tl.constexpr(-1.0e30)  # the score of a position that is not seen; finite, so that differences are no NaN


@triton.jit
def wait_for_previous(DEPENDENT: tl.constexpr, EARLY: tl.constexpr):
    """Wait for the kernel before this one, then let the next one be launched; EARLY: let it first.

    Small kernels do so early, so that the next product loads its first weights meanwhile.
    """
    if DEPENDENT:
        if EARLY:
            tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
        if not EARLY:
            tl.extra.cuda.gdc_launch_dependents()


# ---------------------------------------------------------------- matrix times one row


@triton.jit
def _weight_rows(weight, group, offset, rows, K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Weight rows of a group, `[BLOCK_N, BLOCK_K]`, in the weight's dtype; zeros outside."""
    row = group * BLOCK_N + tl.arange(0, BLOCK_N)
    column = tl.arange(0, BLOCK_K)
    place = weight + (row + offset).to(tl.int64)[:, None] * K + column[None, :]
    inside = (row < rows)[:, None]
    if BLOCK_K != K:
        inside = inside & (column < K)[None, :]
    return tl.load(place, mask=inside, other=0.0, eviction_policy="evict_first")


@triton.jit
def _row_sums(weight, x, PACKED: tl.constexpr):
    """Weight rows `[BLOCK_N, BLOCK_K]` times x `[PACKED, BLOCK_K]`, summed. PACKED = 4: weights of 8 bits in words,
    because bytes that are loaded one by one are packed and unpacked again, for which the memory would wait."""
    if PACKED == 1:
        total = weight.to(tl.float32) * x
    else:
        part = tl.arange(0, PACKED)[:, None]
        a, b, c, d = float_bytes(weight)
        total = a * tl.sum(tl.where(part == 0, x, 0.0), 0)[None, :]
        total += b * tl.sum(tl.where(part == 1, x, 0.0), 0)[None, :]
        total += c * tl.sum(tl.where(part == 2, x, 0.0), 0)[None, :]
        total += d * tl.sum(tl.where(part == 3, x, 0.0), 0)[None, :]
    return tl.sum(total, 1)


@triton.jit
def linear_row_kernel(
    x, weight, scale, bias, gain, residual, out, rows, epsilon,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PACKED: tl.constexpr, GATED: tl.constexpr,
    NORM: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """out `[rows]` = weight `[rows, K]` @ x `[K]`; see `Linear`. BLOCK_K: the power of two that holds K.
    PACKED: weights in an element of `weight`, 4 of 8 bits or 1; scale: None, or that of each row of 8-bit weights."""
    group = tl.program_id(0)
    step = tl.num_programs(0)
    wide: tl.constexpr = K // PACKED
    block: tl.constexpr = BLOCK_K // PACKED
    now = _weight_rows(weight, group, 0, rows, wide, BLOCK_N, block)
    if GATED:
        up_now = _weight_rows(weight, group, rows, rows, wide, BLOCK_N, block)
    wait_for_previous(DEPENDENT, EARLY=False)
    column = PACKED * tl.arange(0, block)[None, :] + tl.arange(0, PACKED)[:, None]
    if BLOCK_K != K:
        row_x = tl.load(x + column, mask=column < K, other=0.0).to(tl.float32)
    else:
        row_x = tl.load(x + column).to(tl.float32)
    if NORM:
        row_x = row_x * tl.rsqrt(tl.sum(row_x * row_x) / K + epsilon)
    if GAIN:
        row_x = row_x * tl.load(gain + column, mask=column < K, other=0.0).to(tl.float32)
    while group * BLOCK_N < rows:
        row = group * BLOCK_N + tl.arange(0, BLOCK_N)
        group += step
        following = _weight_rows(weight, group, 0, rows, wide, BLOCK_N, block)
        if GATED:
            up_following = _weight_rows(weight, group, rows, rows, wide, BLOCK_N, block)
        if RESIDUAL:
            before = tl.load(residual + row, mask=row < rows, other=0.0).to(tl.float32)
        total = _row_sums(now, row_x, PACKED)
        if scale is not None:
            total *= tl.load(scale + row, mask=row < rows, other=0.0)
        if BIAS:
            total += tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)
        if GATED:
            up = _row_sums(up_now, row_x, PACKED)
            if scale is not None:
                up *= tl.load(scale + rows + row, mask=row < rows, other=0.0)
            if BIAS:
                up += tl.load(bias + rows + row, mask=row < rows, other=0.0).to(tl.float32)
            total = total / (1.0 + tl.exp(-total)) * up
            up_now = up_following
        if RESIDUAL:
            total += before
        tl.store(out + row, total.to(out.dtype.element_ty), mask=row < rows)
        now = following


def linear_row(
    linear: Linear, x: torch.Tensor, config: TileConfig, residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """`linear` of the row `x` `[1, in_features]` -> `[1, out_features]`, into `out` where it is given."""
    if out is None:
        out = torch.empty(1, linear.out_features, dtype=x.dtype, device=x.device)
    groups = -(-linear.out_features // config.rows)
    programs = min(groups, config.programs * num_sms(x.device)) if config.programs else groups
    dependent = dependent_launch(x.device)
    weight = linear.weight if linear.scale is None else linear.weight.view(torch.int32)
    linear_row_kernel[(programs,)](
        x, weight, linear.scale, weight if linear.bias is None else linear.bias,
        weight if linear.gain is None else linear.gain, x if residual is None else residual, out, linear.out_features,
        linear.epsilon or 0.0,
        K=linear.in_features, BLOCK_N=config.rows, BLOCK_K=next_power(linear.in_features),
        PACKED=1 if linear.scale is None else 4, GATED=linear.gated, NORM=linear.epsilon is not None,
        GAIN=linear.gain is not None, BIAS=linear.bias is not None, RESIDUAL=residual is not None, DEPENDENT=dependent,
        num_warps=config.warps, launch_pdl=dependent,
    )  # fmt: skip
    return out


# ---------------------------------------------------------------- attention of one query


@triton.jit
def apply_rope(row, gain, cosine, sine, epsilon, D: tl.constexpr, NORM: tl.constexpr):
    """One head's vector at `row`, `[D]` float32: RMS norm if asked, then the rotary position, by halves."""
    index = tl.arange(0, D)
    partner = (index + D // 2) % D
    own = tl.load(row + index).to(tl.float32)
    other = tl.load(row + partner).to(tl.float32)
    if NORM:
        scale = tl.rsqrt(tl.sum(own * own, 0) / D + epsilon)
        own = own * scale * tl.load(gain + index).to(tl.float32)
        other = other * scale * tl.load(gain + partner).to(tl.float32)
    other = tl.where(index < D // 2, -other, other)
    return own * tl.load(cosine + index).to(tl.float32) + other * tl.load(sine + index).to(tl.float32)


@triton.jit
def _cached(cache, head, position, at, first, cache_stride, D: tl.constexpr, BLOCK: tl.constexpr):
    """Positions [first, position) of the BLOCK positions from `at`, of one head; `[BLOCK, D]`, zeros outside."""
    row = at + tl.arange(0, BLOCK)
    seen = (row < position) & (row >= first)
    place = cache + head.to(tl.int64) * cache_stride + row[:, None] * D + tl.arange(0, D)[None, :]
    return tl.load(place, mask=seen[:, None], other=0.0, eviction_policy="evict_first")


@triton.jit
def attention_row_kernel(
    qkv, cosine, sine, q_gain, k_gain, keys, values, position, partial, m_out, l_out, out, scaling, epsilon,
    cache_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
    SPLITS: tl.constexpr, WINDOW: tl.constexpr, QK_NORM: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One query head over one of SPLITS parts of the cache; the first part also has the new token, and stores it.

    qkv `[HEADS + 2 * KV_HEADS, D]`; cosine, sine `[positions, D]`; keys, values `[KV_HEADS, positions, D]`, stride
    `cache_stride` between heads. Leaves partial `[SPLITS, HEADS, D]` (float32, not divided by l), the largest scores
    m and the sums l `[SPLITS, HEADS]`; SPLITS = 1: out.
    """
    head = tl.program_id(0)
    split = tl.program_id(1)
    kv_head = head // (HEADS // KV_HEADS)
    index = tl.arange(0, D)
    now = tl.load(position).to(tl.int32)
    first = 0
    if WINDOW > 0:
        first = tl.maximum(now - WINDOW + 1, 0)
    start = split * (BLOCK * TILES)
    key = _cached(keys, kv_head, now, start, first, cache_stride, D, BLOCK)
    value = _cached(values, kv_head, now, start, first, cache_stride, D, BLOCK)
    cosine += now * D
    sine += now * D
    wait_for_previous(DEPENDENT, EARLY=False)
    query = apply_rope(qkv + head * D, q_gain, cosine, sine, epsilon, D, QK_NORM) * scaling
    m_i = MASKED
    l_i = 0.0
    acc = tl.zeros([D], tl.float32)
    if split == 0:
        new_key = apply_rope(qkv + (HEADS + kv_head) * D, k_gain, cosine, sine, epsilon, D, QK_NORM)
        new_key = new_key.to(keys.dtype.element_ty)
        new_value = tl.load(qkv + (HEADS + KV_HEADS + kv_head) * D + index)
        if head % (HEADS // KV_HEADS) == 0:
            place = kv_head.to(tl.int64) * cache_stride + now * D + index
            tl.store(keys + place, new_key)
            tl.store(values + place, new_value)
        m_i = tl.sum(query * new_key.to(tl.float32), 0)
        l_i = 1.0
        acc = new_value.to(tl.float32)
    for tile in tl.static_range(TILES):
        at = start + tile * BLOCK
        if tile > 0:
            key = _cached(keys, kv_head, now, at, first, cache_stride, D, BLOCK)
            value = _cached(values, kv_head, now, at, first, cache_stride, D, BLOCK)
        row = at + tl.arange(0, BLOCK)
        seen = (row < now) & (row >= first)
        scores = tl.where(seen, tl.sum(key.to(tl.float32) * query[None, :], 1), MASKED)
        m_new = tl.maximum(m_i, tl.max(scores, 0))
        p = tl.where(seen, tl.exp(scores - m_new), 0.0)
        alpha = tl.exp(m_i - m_new)
        l_i = l_i * alpha + tl.sum(p, 0)
        acc = acc * alpha + tl.sum(value.to(tl.float32) * p[:, None], 0)
        m_i = m_new
    if SPLITS == 1:
        tl.store(out + head * D + index, (acc / l_i).to(out.dtype.element_ty))
    else:
        tl.store(m_out + split * HEADS + head, m_i)
        tl.store(l_out + split * HEADS + head, l_i)
        tl.store(partial + (split * HEADS + head) * D + index, acc)


@triton.jit
def combine_splits_kernel(
    partial, m_in, l_in, out,
    HEADS: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """out `[HEADS, D]` from what `attention_row_kernel` left; always in the same order."""
    wait_for_previous(DEPENDENT, EARLY=True)
    head = tl.program_id(0)
    split = tl.arange(0, BLOCK_S)
    index = tl.arange(0, D)
    inside = split < SPLITS
    m_i = tl.load(m_in + split * HEADS + head, mask=inside, other=MASKED)
    alpha = tl.where(inside, tl.exp(m_i - tl.max(m_i, 0)), 0.0)
    l_i = tl.sum(alpha * tl.load(l_in + split * HEADS + head, mask=inside, other=0.0), 0)
    place = partial + (split[:, None] * HEADS + head) * D + index[None, :]
    parts = tl.load(place, mask=inside[:, None], other=0.0)
    acc = tl.sum(parts * alpha[:, None], 0) / l_i
    tl.store(out + head * D + index, acc.to(out.dtype.element_ty))


def attention_row(
    attention: Attention, qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor,
    bucket: int,
) -> torch.Tensor:  # fmt: skip
    """Store the new key and value at `position`, attend to the first `bucket` positions; `[1, heads * head_dim]`.

    qkv `[1, (heads + 2 * kv_heads) * head_dim]`; keys, values `[1, kv_heads, positions, head_dim]`; position int64
    `[1]` on the device.
    """
    heads, head_dim = attention.heads, keys.shape[3]
    splits, tiles = split_counts(bucket)
    dependent = dependent_launch(qkv.device)
    out = torch.empty(1, heads * head_dim, dtype=qkv.dtype, device=qkv.device)
    count = splits * heads
    parts = torch.empty(count * (head_dim + 2), dtype=torch.float32, device=qkv.device)
    partial, m_i, l_i = parts[: count * head_dim], parts[count * head_dim : -count], parts[-count:]
    q_gain, k_gain = (qkv if gain is None else gain for gain in (attention.q_gain, attention.k_gain))
    attention_row_kernel[(heads, splits)](
        qkv, attention.rope_cos, attention.rope_sin, q_gain, k_gain, keys, values, position, partial, m_i, l_i, out,
        attention.scaling, attention.epsilon, keys.stride(1), HEADS=heads, KV_HEADS=attention.kv_heads, D=head_dim,
        BLOCK=CACHE_BLOCK, TILES=tiles, SPLITS=splits, WINDOW=attention.window or 0,
        QK_NORM=attention.q_gain is not None, DEPENDENT=dependent, num_warps=4, launch_pdl=dependent,
    )  # fmt: skip
    if splits > 1:
        combine_splits_kernel[(heads,)](
            partial, m_i, l_i, out, HEADS=heads, D=head_dim, SPLITS=splits, BLOCK_S=next_power(splits),
            DEPENDENT=dependent, num_warps=2, launch_pdl=dependent,
        )  # fmt: skip
    return out
