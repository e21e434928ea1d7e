"""Random numbers that live on the device: noise from a counter, without a generator of torch's.

A generator's state is advanced by the host at each launch, which a captured graph has to be told about, and which in
torch 2.11 a capture on one thread can break on another. Here the state is a tensor: each step hashes (seed, step,
token) and adds one to the step, so replays differ, writing the state reproduces, and nothing is registered anywhere.
"""

from __future__ import annotations

import torch

# Hash "[16 21f0aaad 15 735a2d97 15]" from https://github.com/skeeto/hash-prospector (public domain). Both multipliers
# are below 2**31, so a product with a 32-bit value stays within int64 and no arithmetic overflows.
_FIRST, _SECOND = 0x21F0AAAD, 0x735A2D97
_LOW_32 = 0xFFFFFFFF
_GOLDEN = 0x1E3779B9  # odd, below 2**31: spreads consecutive steps before they are hashed


def hash32(value: torch.Tensor) -> torch.Tensor:
    """A 32-bit mix of int64 tensors that hold values below 2**32."""
    value = ((value ^ (value >> 16)) * _FIRST) & _LOW_32
    value = ((value ^ (value >> 15)) * _SECOND) & _LOW_32
    return value ^ (value >> 15)


def exponential_noise(state: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Exponential(1) noise, float32, one for each entry of `index` (int64), from `state` = [seed, step] (int64).

    Uniform numbers have 23 bits and are never 0 or 1, so the noise is finite and positive: a half added to 24 bits has
    no float32 of its own, and the largest would be 1, whose noise of 0 makes any token the likeliest.
    """
    stream = hash32((state[0] + hash32((state[1] * _GOLDEN) & _LOW_32)) & _LOW_32)
    bits = hash32((hash32(index) + stream) & _LOW_32) >> 9
    return -torch.log((bits.to(torch.float32) + 0.5) * 2.0**-23)


def new_state(seed: int, device: torch.device) -> torch.Tensor:
    """State at step 0 of a stream."""
    return torch.tensor([seed & 0x7FFFFFFF, 0], dtype=torch.int64, device=device)
