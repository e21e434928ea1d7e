"""From weights of 8 bits to floats, in kernels. Imports triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# (what a kernel takes has types of Triton's own, known when it is compiled)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from firsttoken.compiled import int8
from firsttoken.compiled.tiles import next_power

FLOAT_BLOCK = 4096
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
TO_FLOAT32, TO_FLOAT16 = tl.constexpr(int8.WORD_TO_FLOAT32), tl.constexpr(int8.WORD_TO_FLOAT16)
TO_BFLOAT16 = tl.constexpr(int8.WORD_TO_BFLOAT16)
FOUR_REGISTERS, TWO_REGISTERS = tl.constexpr("=r,=r,=r,=r,r"), tl.constexpr("=r,=r,r")  # of floats; last, the word
FOUR_FLOATS = tl.constexpr((tl.float32, tl.float32, tl.float32, tl.float32))


@triton.jit
def float_bytes(word):
    """The four bytes of each word, lowest first, as float32."""
    if INTERPRETED:
        floats = tuple([((word << (24 - 8 * place)) >> 24).to(tl.float32) for place in range(4)])
    else:
        floats = tl.inline_asm_elementwise(TO_FLOAT32, FOUR_REGISTERS, [word], FOUR_FLOATS, is_pure=True, pack=1)
    return floats


@triton.jit
def float_weights(weight, dtype: tl.constexpr):
    """Weights of 8 bits in a float type, four at a time."""
    if INTERPRETED or dtype == tl.float32:
        floats = weight.to(dtype)
    elif dtype == tl.float16:
        floats = tl.inline_asm_elementwise(TO_FLOAT16, TWO_REGISTERS, [weight], tl.float16, is_pure=True, pack=4)
    else:
        floats = tl.inline_asm_elementwise(TO_BFLOAT16, TWO_REGISTERS, [weight], tl.bfloat16, is_pure=True, pack=4)
    return floats


@triton.jit
def float_weight_kernel(weight, scale, out, K: tl.constexpr, BLOCK: tl.constexpr):
    """A part of a row of a weight of 8 bits, times the row's scale."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < K
    part = float_weights(tl.load(weight + row * K + column, mask=inside, other=0), out.dtype.element_ty)
    part = part.to(tl.float32) * tl.load(scale + row)
    tl.store(out + row * K + column, part.to(out.dtype.element_ty), mask=inside)


def float_weight(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A weight of 8 bits `[rows, columns]` in `dtype`."""
    rows, columns = weight.shape
    out = torch.empty_like(weight, dtype=dtype)
    block = min(FLOAT_BLOCK, next_power(columns))
    float_weight_kernel[(rows, -(-columns // block))](weight, scale, out, K=columns, BLOCK=block, num_warps=4)
    return out
