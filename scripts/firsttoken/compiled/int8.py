"""Weights of 8 bits, symmetric: int8 values and a float32 scale for each row. Needs no triton."""

from __future__ import annotations

from dataclasses import replace

import torch

from firsttoken.compiled.tiles import Linear

LARGEST = 127


def quantised(linear: Linear) -> Linear:
    """`linear` with each weight rounded to a multiple of its row's scale, which is the row's largest weight / 127."""
    weight = linear.weight.float()
    scale = (weight.abs().amax(1) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)  # rows of zeros divide by it
    return replace(linear, weight=(weight / scale[:, None]).round_().to(torch.int8), scale=scale)


def dequantised(linear: Linear, dtype: torch.dtype) -> torch.Tensor:
    """The weight `[rows, in_features]` of a quantised `linear` in `dtype`."""
    assert linear.scale is not None
    return (linear.weight * linear.scale[:, None]).to(dtype)
