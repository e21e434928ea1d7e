"""Rounding of weights to 8 bits; needs no triton."""

from __future__ import annotations

from typing import Any

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
