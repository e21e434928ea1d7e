"""Kernels of a prefill: products of a few rows, attention over a prompt, and what lies between. Imports triton.

A prompt of a few tokens costs what a decode step costs, the weights' bytes: its rows go through the tensor cores
together, and each weight is read once; on Hopper by the kernel of `hopper`. A long prompt's products go to cuBLAS,
which fills the tensor cores; what counts there is how few kernels lie between them. Sums are float32 and in a fixed
order.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# (what a kernel takes has types of Triton's own, known when it is compiled)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn import functional

from firsttoken.compiled import hopper
from firsttoken.compiled.decode import MASKED, wait_for_previous
from firsttoken.compiled.tiles import (
    FEW_ROWS,
    FILLED_INSIDE,
    PRODUCT_WARPS,
    Attention,
    Linear,
    attention_tiles,
    dependent_launch,
    next_power,
    product_tiles,
    residual_parts,
    shared_memory_bytes,
)
from firsttoken.compiled.unpack import float_weight, float_weights

LOG2_E = tl.constexpr(1.4426950408889634)


def _dependent(rows: torch.Tensor) -> bool:
    """Whether kernels over these rows, products of ours and what lies between, are launched early; see `decode`. Not
    between products of cuBLAS: on an H100 a prompt of 100 tokens took 5.97 ms with, 5.82 ms without."""
    ours = hopper.MOST_ROWS if hopper.available(rows.device) else FEW_ROWS
    return rows.shape[0] <= ours and dependent_launch(rows.device)


# ---------------------------------------------------------------- products

GATE_BLOCK = 1024
PREFETCHED_LINES = tl.constexpr(4)  # of 128 bytes, of each weight row of a program


@triton.jit
def _prefetch(weight, row, first, K: tl.constexpr):
    """Some cache lines of weight rows, from column `first` on, to the L2 cache."""
    line: tl.constexpr = 1024 // weight.dtype.element_ty.primitive_bitwidth
    column = tl.minimum(first + tl.arange(0, PREFETCHED_LINES) * line, K - 1)
    place = weight + row.to(tl.int64)[:, None] * K + column[None, :]
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [place.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def _weight_block(weight, row, inside, column, K: tl.constexpr, BLOCK_K: tl.constexpr):
    inside = inside[:, None]
    if K % BLOCK_K != 0:
        inside = inside & (column < K)[None, :]
    place = weight + row.to(tl.int64)[:, None] * K + column[None, :]
    return tl.load(place, mask=inside, other=0.0, eviction_policy="evict_first")


@triton.jit
def _add_product(total, part, block, WEIGHT_FIRST: tl.constexpr):
    if block.dtype == tl.int8:
        block = float_weights(block, part.dtype)
    if WEIGHT_FIRST:
        total = tl.dot(block, tl.trans(part), total, input_precision="ieee")
    else:
        total = tl.dot(part, tl.trans(block), total, input_precision="ieee")
    return total


@triton.jit(do_not_specialize=["count"])
def linear_rows_kernel(
    x, weight, scale, bias, out, count, rows,
    K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    WEIGHT_FIRST: tl.constexpr, GATED: tl.constexpr, BIAS: tl.constexpr, PARTS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """out `[count, rows]` = x `[count, K]` @ weight `[rows, K]` transposed (+ bias); count <= BLOCK_M.

    GATED: weight has 2 * rows, gate above up, and out = silu(gate) * up. WEIGHT_FIRST: the weight is the left factor.
    PARTS: how many parts the columns are divided into, for a program each; out is float32 `[PARTS, count, rows]`, the
    sum of each. 0: they are not. scale: None, or that of each row of a weight of 8 bits.
    """
    token = tl.arange(0, BLOCK_M)
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    own = row < rows
    first = 0
    end = K
    if PARTS > 0:
        width: tl.constexpr = (K + PARTS * BLOCK_K - 1) // (PARTS * BLOCK_K) * BLOCK_K
        first = tl.program_id(1) * width
        end = tl.minimum(first + width, K)
    if DEPENDENT:
        near = tl.minimum(row, rows - 1)
        _prefetch(weight, near, first, K)
        if GATED:
            _prefetch(weight, near + rows, first, K)
    wait_for_previous(DEPENDENT, EARLY=False)
    if WEIGHT_FIRST:
        total = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        up = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    else:
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        up = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in tl.range(first, end, BLOCK_K, num_stages=STAGES):
        column = start + tl.arange(0, BLOCK_K)
        inside = (token < count)[:, None]
        if K % BLOCK_K != 0:
            inside = inside & (column < K)[None, :]
        part = tl.load(x + token[:, None] * K + column[None, :], mask=inside, other=0.0)
        total = _add_product(total, part, _weight_block(weight, row, own, column, K, BLOCK_K), WEIGHT_FIRST)
        if GATED:
            block = _weight_block(weight + rows.to(tl.int64) * K, row, own, column, K, BLOCK_K)
            up = _add_product(up, part, block, WEIGHT_FIRST)
    if WEIGHT_FIRST:
        total = tl.trans(total)
        up = tl.trans(up)
    if scale is not None:
        total *= tl.load(scale + row, mask=own, other=0.0)[None, :]
        if GATED:
            up *= tl.load(scale + rows + row, mask=own, other=0.0)[None, :]
    if BIAS:  # in the first part alone
        total += tl.load(bias + row, mask=own & (tl.program_id(1) == 0), other=0.0).to(tl.float32)[None, :]
    if GATED:
        if BIAS:
            up += tl.load(bias + rows + row, mask=own, other=0.0).to(tl.float32)[None, :]
        total = total / (1.0 + tl.exp(-total)) * up
    place = (tl.program_id(1) * count + token)[:, None] * rows + row[None, :]
    inside = (token < count)[:, None] & own[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


def linear_rows(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    """`linear` of each row of `x` `[count, in_features]` -> `[count, out_features]`, without the norm."""
    if hopper.takes(linear, x):
        return _by_hopper(linear, x)
    if x.shape[0] <= FEW_ROWS:
        return _few_rows(linear, x, parts=0)
    out = functional.linear(x, _float_weight(linear, x), linear.bias)
    return gate_rows(out) if linear.gated else out


def add_linear_rows(linear: Linear, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor | None:
    """`linear` of each row of `x`, added to `residual` `[count, out_features]` in place, which gives None. Of few rows
    `residual` stays as it is, and parts of the sum come back for `add_norm_rows`, float32 `[parts, count,
    out_features]`; so they do of more where `hopper` computes them."""
    if hopper.takes(linear, x):
        return _by_hopper(linear, x)
    if x.shape[0] <= FEW_ROWS:
        return _few_rows(linear, x, residual_parts(linear, x.shape[0]))
    if linear.bias is not None:
        residual.add_(linear.bias)
    residual.addmm_(x, _float_weight(linear, x).t())
    return None


def _by_hopper(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    weight = _float_weight(linear, x)
    return hopper.multiply_rows(linear, weight, x, early=weight is linear.weight and _dependent(x))


def _float_weight(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    return linear.weight if linear.scale is None else float_weight(linear.weight, linear.scale, x.dtype)


def _few_rows(linear: Linear, x: torch.Tensor, parts: int) -> torch.Tensor:
    count, rows = x.shape[0], linear.out_features
    tiles, dependent = product_tiles(linear, count), _dependent(x)
    out = x.new_empty(parts, count, rows, dtype=torch.float32) if parts else x.new_empty(count, rows)
    linear_rows_kernel[(-(-rows // tiles.rows), max(1, parts))](
        x, linear.weight, linear.scale, linear.weight if linear.bias is None else linear.bias, out, count, rows,
        K=linear.in_features, BLOCK_M=tiles.tokens, BLOCK_N=tiles.rows,
        BLOCK_K=min(tiles.columns, max(16, next_power(linear.in_features))), STAGES=tiles.stages,
        WEIGHT_FIRST=tiles.weight_first, GATED=linear.gated, BIAS=linear.bias is not None, PARTS=parts,
        DEPENDENT=dependent, num_warps=PRODUCT_WARPS, launch_pdl=dependent,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["count"])
def add_norm_rows_kernel(
    x, parts, out, epsilon, count,
    K: tl.constexpr, BLOCK_K: tl.constexpr, PARTS: tl.constexpr, NORM: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Add parts `[PARTS, count, K]` to x `[count, K]`; NORM: out is each row divided by its root mean square. One
    program a row."""
    wait_for_previous(DEPENDENT, EARLY=True)
    column = tl.arange(0, BLOCK_K)
    place = tl.program_id(0).to(tl.int64) * K + column
    row = tl.load(x + place, mask=column < K, other=0.0)
    if PARTS > 0:
        total = row.to(tl.float32)
        for part in tl.static_range(PARTS):
            total += tl.load(parts + part * count * K + place, mask=column < K, other=0.0)
        row = total.to(row.dtype)
        tl.store(x + place, row, mask=column < K)
    if NORM:
        total = row.to(tl.float32)
        total = total * tl.rsqrt(tl.sum(total * total, 0) / K + epsilon)
        tl.store(out + place, total.to(out.dtype.element_ty), mask=column < K)


def add_norm_rows(x: torch.Tensor, parts: torch.Tensor | None, epsilon: float | None) -> torch.Tensor:
    """Add `parts` of `add_linear_rows` to `x` `[count, width]`, in place; returns its rows divided by their root mean
    square, or with epsilon None `x` itself."""
    out, dependent = x if epsilon is None else torch.empty_like(x), _dependent(x)
    block = next_power(x.shape[1])
    # No more threads than columns: a copy of an element in a second warp might be read after the first has stored it.
    warps = min(8, max(1, block // 32))
    if parts is not None or epsilon is not None:
        add_norm_rows_kernel[(x.shape[0],)](
            x, x if parts is None else parts, out, epsilon or 0.0, x.shape[0], K=x.shape[1],
            BLOCK_K=block, PARTS=0 if parts is None else parts.shape[0], NORM=epsilon is not None, DEPENDENT=dependent,
            num_warps=warps, launch_pdl=dependent,
        )  # fmt: skip
    return out


@triton.jit
def gate_rows_kernel(both, out, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """out `[count, ROWS]` = silu(gate) * up, of both `[count, 2 * ROWS]`, gate before up."""
    token = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.load(both + token * (2 * ROWS) + row, mask=row < ROWS, other=0.0).to(tl.float32)
    up = tl.load(both + token * (2 * ROWS) + ROWS + row, mask=row < ROWS, other=0.0).to(tl.float32)
    tl.store(out + token * ROWS + row, (gate / (1.0 + tl.exp(-gate)) * up).to(out.dtype.element_ty), mask=row < ROWS)


def gate_rows(both: torch.Tensor) -> torch.Tensor:
    """`[count, 2 * rows]`, gate before up -> silu(gate) * up."""
    count, rows = both.shape[0], both.shape[1] // 2
    out = torch.empty(count, rows, dtype=both.dtype, device=both.device)
    gate_rows_kernel[(-(-rows // GATE_BLOCK), count)](both, out, ROWS=rows, BLOCK=GATE_BLOCK, num_warps=4)
    return out


# ---------------------------------------------------------------- attention

FILL_BLOCK = 8


@triton.jit
def apply_rope_rows(place, row, count, gain, cosine, sine, stride, epsilon, D: tl.constexpr, NORM: tl.constexpr):
    """One head's vectors of some tokens, `[tokens, D]` float32: RMS norm if asked, then rotary position by halves."""
    index = tl.arange(0, D)[None, :]
    partner = (index + D // 2) % D
    row = row[:, None]
    there = row < count
    own = tl.load(place + row * stride + index, mask=there, other=0.0).to(tl.float32)
    other = tl.load(place + row * stride + partner, mask=there, other=0.0).to(tl.float32)
    if NORM:
        scale = tl.rsqrt(tl.sum(own * own, 1) / D + epsilon)[:, None]
        own = own * scale * tl.load(gain + index).to(tl.float32)
        other = other * scale * tl.load(gain + partner).to(tl.float32)
    other = tl.where(index < D // 2, -other, other)
    cos = tl.load(cosine + row * D + index, mask=there, other=0.0).to(tl.float32)
    return own * cos + other * tl.load(sine + row * D + index, mask=there, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["count"])
def fill_cache_kernel(
    qkv, cosine, sine, k_gain, keys, values, count, epsilon, cache_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, QK_NORM: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Keys with their rotary positions, and values, of BLOCK tokens of one head to the cache."""
    wait_for_previous(DEPENDENT, EARLY=True)
    head = tl.program_id(0)
    stride: tl.constexpr = (HEADS + 2 * KV_HEADS) * D
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    index = tl.arange(0, D)[None, :]
    inside = row[:, None] < count
    cached = head.to(tl.int64) * cache_stride + row[:, None] * D + index
    place = qkv + (HEADS + head) * D
    key = apply_rope_rows(place, row, count, k_gain, cosine, sine, stride, epsilon, D, QK_NORM)
    value = tl.load(place + KV_HEADS * D + row[:, None] * stride + index, mask=inside, other=0.0)
    tl.store(keys + cached, key.to(keys.dtype.element_ty), mask=inside)
    tl.store(values + cached, value, mask=inside)


@triton.jit(do_not_specialize=["count"])
def attention_rows_kernel(
    qkv, cosine, sine, q_gain, k_gain, keys, values, out, count, scaling, epsilon, cache_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_KV: tl.constexpr,
    STAGES: tl.constexpr, FILLED: tl.constexpr, WINDOW: tl.constexpr, QK_NORM: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Causal attention of BLOCK_Q tokens of one head over the prompt, which lies in the cache from position 0.

    qkv `[count, HEADS + 2 * KV_HEADS, D]`, cosine and sine `[positions, D]`, out `[count, HEADS, D]`; keys, values
    `[KV_HEADS, positions, D]`, stride `cache_stride` between heads. FILLED: `fill_cache_kernel` has left keys and
    values there; else they are taken from qkv, and stored by the program whose tokens they are of. BLOCK_Q is a
    multiple of BLOCK_KV.
    """
    wait_for_previous(DEPENDENT, EARLY=True)
    head = tl.program_id(0)
    start = (tl.num_programs(1) - 1 - tl.program_id(1)) * BLOCK_Q  # those with most to do begin first
    kv_head = head // (HEADS // KV_HEADS)
    cache_head = kv_head.to(tl.int64) * cache_stride
    stride: tl.constexpr = (HEADS + 2 * KV_HEADS) * D
    token = start + tl.arange(0, BLOCK_Q)
    index = tl.arange(0, D)[None, :]
    query = apply_rope_rows(qkv + head * D, token, count, q_gain, cosine, sine, stride, epsilon, D, QK_NORM)
    query = query.to(keys.dtype.element_ty)
    m_i = tl.full([BLOCK_Q], MASKED, tl.float32)
    l_i = tl.zeros([BLOCK_Q], tl.float32)
    acc = tl.zeros([BLOCK_Q, D], tl.float32)
    first = 0
    if WINDOW > 0:
        first = tl.maximum(start - WINDOW + 1, 0) // BLOCK_KV * BLOCK_KV
    for at in tl.range(first, tl.minimum(start + BLOCK_Q, count), BLOCK_KV, num_stages=STAGES):
        other = at + tl.arange(0, BLOCK_KV)
        inside = other[:, None] < count
        cached = cache_head + other[:, None] * D + index
        if FILLED:
            key = tl.load(keys + cached, mask=inside, other=0.0)
            value = tl.load(values + cached, mask=inside, other=0.0)
        else:
            place = qkv + (HEADS + kv_head) * D
            key = apply_rope_rows(place, other, count, k_gain, cosine, sine, stride, epsilon, D, QK_NORM)
            key = key.to(keys.dtype.element_ty)
            value = tl.load(place + KV_HEADS * D + other[:, None] * stride + index, mask=inside, other=0.0)
            if (at >= start) & (head % (HEADS // KV_HEADS) == 0):
                tl.store(keys + cached, key, mask=inside)
                tl.store(values + cached, value, mask=inside)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * (scaling * LOG2_E)
        seen = other[None, :] <= token[:, None]
        if WINDOW > 0:
            seen = seen & (other[None, :] > token[:, None] - WINDOW)
        scores = tl.where(seen, scores, MASKED)
        m_new = tl.maximum(m_i, tl.max(scores, 1))
        p = tl.where(seen, tl.exp2(scores - m_new[:, None]), 0.0)
        alpha = tl.exp2(m_i - m_new)
        l_i = l_i * alpha + tl.sum(p, 1)
        acc = tl.dot(p.to(value.dtype), value, acc * alpha[:, None], input_precision="ieee")
        m_i = m_new
    target = out + token[:, None] * (HEADS * D) + head * D + index
    tl.store(target, (acc / l_i[:, None]).to(out.dtype.element_ty), mask=token[:, None] < count)


def attention_rows(attention: Attention, qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Store keys and values of a prompt from position 0 of the cache on, attend within it.

    qkv `[count, (heads + 2 * kv_heads) * head_dim]` -> `[count, heads * head_dim]`; keys, values as in
    `decode.attention_row`.
    """
    count, heads, head_dim = qkv.shape[0], attention.heads, keys.shape[3]
    out = torch.empty(count, heads * head_dim, dtype=qkv.dtype, device=qkv.device)
    cosine, sine = attention.rope_cos, attention.rope_sin
    q_gain, k_gain = (qkv if gain is None else gain for gain in (attention.q_gain, attention.k_gain))
    dependent = _dependent(qkv)
    shared = {
        "HEADS": heads, "KV_HEADS": attention.kv_heads, "D": head_dim, "QK_NORM": attention.q_gain is not None,
        "DEPENDENT": dependent, "launch_pdl": dependent,
    }  # fmt: skip
    fill_before = count > FILLED_INSIDE
    if fill_before:
        fill_cache_kernel[(attention.kv_heads, -(-count // FILL_BLOCK))](
            qkv, cosine, sine, k_gain, keys, values, count, attention.epsilon, keys.stride(1), BLOCK=FILL_BLOCK,
            num_warps=4, **shared,
        )  # fmt: skip
    tiles = attention_tiles(count, head_dim, qkv.element_size(), shared_memory_bytes(qkv.device))
    attention_rows_kernel[(heads, -(-count // tiles.queries))](
        qkv, cosine, sine, q_gain, k_gain, keys, values, out, count, attention.scaling, attention.epsilon,
        keys.stride(1), BLOCK_Q=tiles.queries, BLOCK_KV=tiles.keys, STAGES=tiles.stages, FILLED=fill_before,
        WINDOW=attention.window or 0, num_warps=tiles.warps, **shared,
    )  # fmt: skip
    return out
