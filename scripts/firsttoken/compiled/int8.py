"""Weights of 8 bits, symmetric: int8 values, a float32 scale for each row, and PTX to unpack them. Needs no triton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from firsttoken.compiled.tiles import Linear

LARGEST = 127

# PTX from a word of four bytes to four floats, since conversions are slow instructions. A byte from -128 on, made one
# from 0 on, becomes the last bits of a number whose spacing is 1: of 1024 in float16, of 2**23 in float32. Exact.


def _to_float32(word: str, registers: Sequence[str]) -> str:
    lines = [f"xor.b32 word, {word}, 0x80808080;"]
    for place, name in enumerate(registers):
        lines += [f"prmt.b32 {name}, word, 0x4B000000, 0x754{place};", f"sub.f32 {name}, {name}, 0f4B000080;"]
    return "\n".join(lines)


WORD_TO_FLOAT32 = f"{{ .reg .b32 word;\n{_to_float32('$4', ('$0', '$1', '$2', '$3'))} }}"
WORD_TO_BFLOAT16 = f"""{{ .reg .b32 word, a, b, c, d;
{_to_float32("$2", "abcd")}
prmt.b32 $0, a, b, 0x7632;
prmt.b32 $1, c, d, 0x7632; }}"""  # their upper halves
WORD_TO_FLOAT16 = """{ .reg .b32 word, bias;
xor.b32 word, $2, 0x80808080;
mov.b32 bias, 0x64806480;
prmt.b32 $0, word, 0x64646464, 0x4140;
prmt.b32 $1, word, 0x64646464, 0x4342;
sub.f16x2 $0, $0, bias;
sub.f16x2 $1, $1, bias; }"""


def quantised(linear: Linear) -> Linear:
    """`linear` with each weight rounded to a multiple of its row's scale, which is the row's largest weight / 127."""
    weight = linear.weight.float()
    scale = (weight.abs().amax(1) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)  # rows of zeros divide by it
    return replace(linear, weight=(weight / scale[:, None]).round_().to(torch.int8), scale=scale)


def dequantised(linear: Linear, dtype: torch.dtype) -> torch.Tensor:
    """The weight `[rows, in_features]` of a quantised `linear` in `dtype`."""
    assert linear.scale is not None
    return (linear.weight * linear.scale[:, None]).to(dtype)
