"""Rounding of weights to 8 bits; needs no triton."""

from __future__ import annotations

import operator
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

SIZES = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(-40, 12), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_the_error_is_half_a_step_at_most(rows: int, columns: int, exponent: int, dtype: Any) -> None:
    """Seen failing: one scale for all rows; a scale of 1 / 128, whose largest weight overflows."""
    from firsttoken.compiled.int8 import dequantised, quantised
    from firsttoken.compiled.tiles import Linear

    torch.manual_seed(rows * 41 + columns)
    weight = torch.randn(rows, columns) * 2.0 ** torch.randint(exponent - 4, exponent + 4, (rows, 1))
    largest = torch.finfo(dtype).max
    weight = weight.clamp(-largest, largest).to(dtype)
    weight[rows // 2] = 0
    found = quantised(Linear(weight))
    assert found.scale is not None
    assert (found.weight.dtype, found.scale.dtype, found.scale.shape) == (torch.int8, torch.float32, (rows,))
    error = (weight.float() - dequantised(found, torch.float32)).abs()
    assert (error <= found.scale[:, None] * 0.50001).all()
    assert not dequantised(found, dtype)[rows // 2].any()
    assert (found.weight.abs().amax(1)[weight.abs().amax(1) > 0] == 127).all(), "the whole range is used"


def test_tuned_tiles_tell_8_bits_from_float() -> None:
    """Half the bytes a weight: twice as many at once."""
    from firsttoken.compiled.int8 import quantised
    from firsttoken.compiled.tiles import Linear, candidates

    linear = Linear(torch.randn(512, 4096, dtype=torch.float16))
    small = quantised(linear)
    assert small.key() != linear.key()
    assert max(tile.rows for tile in candidates(small)) == 2 * max(tile.rows for tile in candidates(linear))


def _prmt(a: int, b: int, selector: int) -> int:
    """PTX's byte permutation: each of the selector's four digits names one of the eight bytes of b above a."""
    pool = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    return int.from_bytes(bytes(pool[selector >> 4 * place & 7] for place in range(4)), "little")


def _run_ptx(code: str, word: int, outputs: int) -> bytes:
    """The few instructions that unpack a word, run; the output registers as they lie in memory."""
    registers: dict[str, int] = {f"${outputs}": word}

    def value(name: str) -> int:
        return registers[name] if name in registers else int(name.replace("0f", "0x"), 16)

    for line in code.strip("{ }").split(";"):
        name, *arguments = re.split(r"[ ,]+", line.strip())
        if name in ("", ".reg"):
            continue
        into, *given = arguments[0], *(value(argument) for argument in arguments[1:])
        if name.startswith("sub"):
            dtype: Any = np.float16 if "f16x2" in name else np.float32
            a, b = (np.array([bits], np.uint32).view(dtype) for bits in given)
            registers[into] = int((a - b).view(np.uint32)[0])
        else:
            does: Any = {"xor.b32": operator.xor, "mov.b32": int, "prmt.b32": _prmt}[name]
            registers[into] = does(*given)
    return b"".join(registers[f"${place}"].to_bytes(4, "little") for place in range(outputs))


@pytest.mark.parametrize(
    ("name", "dtype"), [("FLOAT32", torch.float32), ("FLOAT16", torch.float16), ("BFLOAT16", torch.bfloat16)]
)
def test_every_byte_of_a_word_becomes_its_float(name: str, dtype: Any) -> None:
    from firsttoken.compiled import int8

    code = getattr(int8, f"WORD_TO_{name}")
    for first in range(-128, 128):
        numbers = torch.tensor([first, -1 - first, (first + 64) % 128, 127], dtype=torch.int8)
        word = int.from_bytes(numbers.numpy().tobytes(), "little")
        found = torch.frombuffer(bytearray(_run_ptx(code, word, 4 if dtype == torch.float32 else 2)), dtype=dtype)
        assert found.tolist() == numbers.tolist()
