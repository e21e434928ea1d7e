"""Triton kernels for a prompt of a few tokens: as in a decode step, the weights' bytes are what costs. Imports triton.

Up to BLOCK_M rows go through tensor cores together, so that each weight is read once. The rules of dependent launch are
those of `triton_kernels`.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# (what a kernel takes has types of Triton's own, known when it is compiled)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _weight_block(weight, row, rows, column, K: tl.constexpr, BLOCK_K: tl.constexpr):
    inside = (row < rows)[:, None]
    if K % BLOCK_K != 0:
        inside = inside & (column < K)[None, :]
    place = weight + row.to(tl.int64)[:, None] * K + column[None, :]
    return tl.load(place, mask=inside, other=0.0, eviction_policy="evict_first")


@triton.jit
def prompt_product_kernel(
    x, weight, bias, residual, out, count, rows, epsilon,
    K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    GATED: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out `[count, rows]` = x `[count, K]` @ weight `[rows, K]` transposed; the rest as in `matvec_kernel`."""
    token = tl.arange(0, BLOCK_M)
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    up = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    squares = tl.zeros([BLOCK_M], tl.float32)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    for start in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        column = start + tl.arange(0, BLOCK_K)
        inside = (token < count)[:, None]
        if K % BLOCK_K != 0:
            inside = inside & (column < K)[None, :]
        part = tl.load(x + token[:, None] * K + column[None, :], mask=inside, other=0.0)
        block = _weight_block(weight, row, rows, column, K, BLOCK_K)
        total = tl.dot(part, tl.trans(block), total, input_precision="ieee")
        if GATED:
            block = _weight_block(weight + rows.to(tl.int64) * K, row, rows, column, K, BLOCK_K)
            up = tl.dot(part, tl.trans(block), up, input_precision="ieee")
        if NORM:
            wide = part.to(tl.float32)
            squares += tl.sum(wide * wide, 1)
    if NORM:
        scale = tl.rsqrt(squares / K + epsilon)[:, None]
        total *= scale
        up *= scale
    if BIAS:
        total += tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)[None, :]
    if GATED:
        if BIAS:
            up += tl.load(bias + rows + row, mask=row < rows, other=0.0).to(tl.float32)[None, :]
        total = total / (1.0 + tl.exp(-total)) * up
    place = token[:, None] * rows + row[None, :]
    inside = (token < count)[:, None] & (row < rows)[None, :]
    if RESIDUAL:
        total += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _turned_rows(
    rows, gain, cosine, sine, count, stride, epsilon, D: tl.constexpr, BLOCK_M: tl.constexpr, NORM: tl.constexpr
):  # fmt: skip
    """One head's vectors of all tokens, `[BLOCK_M, D]` float32: RMS norm if asked, then rotary position by halves."""
    token = tl.arange(0, BLOCK_M)[:, None]
    index = tl.arange(0, D)[None, :]
    partner = (index + D // 2) % D
    there = token < count
    own = tl.load(rows + token * stride + index, mask=there, other=0.0).to(tl.float32)
    other = tl.load(rows + token * stride + partner, mask=there, other=0.0).to(tl.float32)
    if NORM:
        scale = tl.rsqrt(tl.sum(own * own, 1) / D + epsilon)[:, None]
        own = own * scale * tl.load(gain + index).to(tl.float32)
        other = other * scale * tl.load(gain + partner).to(tl.float32)
    other = tl.where(index < D // 2, -other, other)
    turn = tl.load(cosine + token * D + index, mask=there, other=0.0).to(tl.float32)
    return own * turn + other * tl.load(sine + token * D + index, mask=there, other=0.0).to(tl.float32)


@triton.jit
def prompt_attention_kernel(
    qkv, cosine, sine, q_gain, k_gain, keys, values, out, count, scaling, epsilon, cache_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, WINDOW: tl.constexpr,
    QK_NORM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Causal attention of one head within the prompt, whose keys and values go to the cache from position 0.

    qkv `[count, HEADS + 2 * KV_HEADS, D]`, cosine and sine `[count, D]`, out `[count, HEADS, D]`.
    """
    head = tl.program_id(0)
    kv_head = head // (HEADS // KV_HEADS)
    token = tl.arange(0, BLOCK_M)
    index = tl.arange(0, D)
    stride = (HEADS + 2 * KV_HEADS) * D
    there = (token < count)[:, None]
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    query = _turned_rows(qkv + head * D, q_gain, cosine, sine, count, stride, epsilon, D, BLOCK_M, QK_NORM)
    key = _turned_rows(qkv + (HEADS + kv_head) * D, k_gain, cosine, sine, count, stride, epsilon, D, BLOCK_M, QK_NORM)
    key = key.to(keys.dtype.element_ty)
    place = qkv + (HEADS + KV_HEADS + kv_head) * D + token[:, None] * stride + index[None, :]
    value = tl.load(place, mask=there, other=0.0)
    if head % (HEADS // KV_HEADS) == 0:
        cached = kv_head.to(tl.int64) * cache_stride + token[:, None] * D + index[None, :]
        tl.store(keys + cached, key, mask=there)
        tl.store(values + cached, value, mask=there)
    scores = tl.dot(query.to(key.dtype), tl.trans(key), input_precision="ieee") * scaling
    seen = token[None, :] <= token[:, None]
    if WINDOW > 0:
        seen = seen & (token[None, :] > token[:, None] - WINDOW)
    scores = tl.where(seen, scores, -1.0e30)
    shares = tl.where(seen, tl.exp(scores - tl.max(scores, 1)[:, None]), 0.0)
    shares = shares / tl.sum(shares, 1)[:, None]
    result = tl.dot(shares.to(value.dtype), value, input_precision="ieee")
    written = out + token[:, None] * (HEADS * D) + head * D + index[None, :]
    tl.store(written, result.to(out.dtype.element_ty), mask=there)
