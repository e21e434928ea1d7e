"""Triton kernels of a decode step: matrix times one row, and attention of one query. Imports triton.

A decode step reads every weight once and does little else, so what counts is that the memory never waits. Hence:
few programs that stay (a couple on each multiprocessor) and hold the whole input row in registers; each asks for its
next weight rows before it sums those that it has; sums are float32 and in a fixed order (no atomics).

Programmatic dependent launch (`PDL`): a kernel starts while the one before it ends. Rule: what a kernel reads before
`gdc_wait` was not written by the kernel before it (weights; older cache positions), and `gdc_launch_dependents` comes
after `gdc_wait`, so that a running kernel may take all kernels but its predecessor for finished.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# (what a kernel takes has types of Triton's own, known when it is compiled)

from __future__ import annotations

import triton
import triton.language as tl

MASKED = tl.constexpr(-1.0e30)  # a score that counts nothing; finite, so that differences of two are no NaN


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
def matvec_kernel(
    x, weight, bias, gain, residual, out, rows, epsilon,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GATED: tl.constexpr, NORM: tl.constexpr,
    GAIN: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out `[rows]` = weight `[rows, K]` @ x `[K]` (+ bias) (+ residual).

    NORM: x is divided by its root mean square first, GAIN: and multiplied by `gain`. GATED: weight has 2 * rows, gate
    above up, and out = silu(gate) * up. BLOCK_K: the power of two that holds K.
    """
    group = tl.program_id(0)
    step = tl.num_programs(0)
    column = tl.arange(0, BLOCK_K)
    now = _weight_rows(weight, group, 0, rows, K, BLOCK_N, BLOCK_K)
    if GATED:
        up_now = _weight_rows(weight, group, rows, rows, K, BLOCK_N, BLOCK_K)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    if BLOCK_K != K:
        row_x = tl.load(x + column, mask=column < K, other=0.0).to(tl.float32)
    else:
        row_x = tl.load(x + column).to(tl.float32)
    if NORM:
        row_x = row_x * tl.rsqrt(tl.sum(row_x * row_x, 0) / K + epsilon)
    if GAIN:
        row_x = row_x * tl.load(gain + column, mask=column < K, other=0.0).to(tl.float32)
    while group * BLOCK_N < rows:
        row = group * BLOCK_N + tl.arange(0, BLOCK_N)
        group += step
        following = _weight_rows(weight, group, 0, rows, K, BLOCK_N, BLOCK_K)
        if GATED:
            up_following = _weight_rows(weight, group, rows, rows, K, BLOCK_N, BLOCK_K)
        if RESIDUAL:
            before = tl.load(residual + row, mask=row < rows, other=0.0).to(tl.float32)
        total = tl.sum(now.to(tl.float32) * row_x[None, :], 1)
        if BIAS:
            total += tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)
        if GATED:
            up = tl.sum(up_now.to(tl.float32) * row_x[None, :], 1)
            if BIAS:
                up += tl.load(bias + rows + row, mask=row < rows, other=0.0).to(tl.float32)
            total = total / (1.0 + tl.exp(-total)) * up
            up_now = up_following
        if RESIDUAL:
            total += before
        tl.store(out + row, total.to(out.dtype.element_ty), mask=row < rows)
        now = following


@triton.jit
def _turned(row, gain, cosine, sine, epsilon, D: tl.constexpr, NORM: tl.constexpr):
    """One head's vector at `row`, `[D]` float32: RMS norm if asked, then rotary position by halves."""
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
def attention_kernel(
    qkv, cosine, sine, q_gain, k_gain, keys, values, position, partial, tops, sums, out, scaling, epsilon, cache_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
    SPLITS: tl.constexpr, WINDOW: tl.constexpr, QK_NORM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One query head over one of SPLITS parts of the cache; the first part also has the new token, and stores it.

    qkv `[HEADS + 2 * KV_HEADS, D]`; keys, values `[KV_HEADS, positions, D]`, stride `cache_stride` between heads.
    Leaves partial `[SPLITS, HEADS, D]` (float32, not divided), tops and sums `[SPLITS, HEADS]`; SPLITS = 1: out.
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
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    query = _turned(qkv + head * D, q_gain, cosine, sine, epsilon, D, QK_NORM) * scaling
    top = MASKED
    total = 0.0
    result = tl.zeros([D], tl.float32)
    if split == 0:
        new_key = _turned(qkv + (HEADS + kv_head) * D, k_gain, cosine, sine, epsilon, D, QK_NORM)
        new_key = new_key.to(keys.dtype.element_ty)
        new_value = tl.load(qkv + (HEADS + KV_HEADS + kv_head) * D + index)
        if head % (HEADS // KV_HEADS) == 0:
            place = kv_head.to(tl.int64) * cache_stride + now * D + index
            tl.store(keys + place, new_key)
            tl.store(values + place, new_value)
        top = tl.sum(query * new_key.to(tl.float32), 0)
        total = 1.0
        result = new_value.to(tl.float32)
    for tile in tl.static_range(TILES):
        at = start + tile * BLOCK
        if tile > 0:
            key = _cached(keys, kv_head, now, at, first, cache_stride, D, BLOCK)
            value = _cached(values, kv_head, now, at, first, cache_stride, D, BLOCK)
        row = at + tl.arange(0, BLOCK)
        seen = (row < now) & (row >= first)
        scores = tl.where(seen, tl.sum(key.to(tl.float32) * query[None, :], 1), MASKED)
        higher = tl.maximum(top, tl.max(scores, 0))
        shares = tl.where(seen, tl.exp(scores - higher), 0.0)
        shrink = tl.exp(top - higher)
        total = total * shrink + tl.sum(shares, 0)
        result = result * shrink + tl.sum(value.to(tl.float32) * shares[:, None], 0)
        top = higher
    if SPLITS == 1:
        tl.store(out + head * D + index, (result / total).to(out.dtype.element_ty))
    else:
        tl.store(tops + split * HEADS + head, top)
        tl.store(sums + split * HEADS + head, total)
        tl.store(partial + (split * HEADS + head) * D + index, result)


@triton.jit
def combine_kernel(
    partial, tops, sums, out,
    HEADS: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out `[HEADS, D]` from what `attention_kernel` left; always in the same order."""
    head = tl.program_id(0)
    split = tl.arange(0, BLOCK_S)
    index = tl.arange(0, D)
    there = split < SPLITS
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    top = tl.load(tops + split * HEADS + head, mask=there, other=MASKED)
    share = tl.where(there, tl.exp(top - tl.max(top, 0)), 0.0)
    total = tl.sum(share * tl.load(sums + split * HEADS + head, mask=there, other=0.0), 0)
    place = partial + (split[:, None] * HEADS + head) * D + index[None, :]
    parts = tl.load(place, mask=there[:, None], other=0.0)
    result = tl.sum(parts * share[:, None], 0) / total
    tl.store(out + head * D + index, result.to(out.dtype.element_ty))
