"""Which tiles the kernels get, and what that depends on in a device. Needs no triton.

Products are described by `Linear`, attention by `Attention`; the kernels are in `decode` and `prefill`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from firsttoken.hardware import driver_versions


@dataclass(frozen=True)
class Linear:
    """A product with `weight` `[out_features, in_features]`, with what happens before and after it."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    epsilon: float | None = None  # RMS norm of the input first, its gain folded into the weight
    gain: torch.Tensor | None = None  # of that norm, where it is not folded
    gated: bool = False  # gate above up in `weight`: silu(gate) * up
    residual: bool = False  # the layer's input is added to the result
    scale: torch.Tensor | None = None  # float32, of each row of `weight`, which is int8; see `int8.quantised`

    @property
    def out_features(self) -> int:
        return self.weight.shape[0] // 2 if self.gated else self.weight.shape[0]

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    def key(self) -> str:
        """What a tuned configuration depends on."""
        parts = [name for name in ("gated", "residual") if getattr(self, name)]
        parts += [name for name in ("bias", "epsilon", "gain") if getattr(self, name) is not None]
        return f"{self.out_features}x{self.in_features} {self.weight.dtype} {'+'.join(parts) or 'plain'}"


@dataclass(frozen=True)
class Attention:
    """What a layer's attention needs beside its input and its cache."""

    heads: int
    kv_heads: int
    scaling: float
    rope_cos: torch.Tensor  # [positions, head_dim], in the model's dtype; all layers share it
    rope_sin: torch.Tensor
    window: int | None = None  # positions that a query sees
    q_gain: torch.Tensor | None = None  # float32 [head_dim]: RMS norm of each query and key
    k_gain: torch.Tensor | None = None
    epsilon: float = 0.0


# ---------------------------------------------------------------- the device


@functools.cache
def num_sms(device: torch.device) -> int:
    """Streaming multiprocessors; few in the interpreter, so that its programs have several groups of rows each."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 2


@functools.cache
def shared_memory_bytes(device: torch.device) -> int:
    """Shared memory that a program may have that has an SM to itself."""
    if device.type != "cuda":
        return 1 << 16
    properties: Any = torch.cuda.get_device_properties(device)
    # Less what a program takes beside its own, and the KiB that the largest program leaves to the device.
    return int(properties.shared_memory_per_multiprocessor) - 4096


@functools.cache
def dependent_launch(device: torch.device) -> bool:
    """Whether a kernel can be launched while the one before it runs, and wait for it by itself: Hopper and newer, and
    in graphs that are captured, drivers for CUDA 12.3 and newer."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        return False
    _, cuda = driver_versions()
    return cuda != "" and tuple(map(int, cuda.split("."))) >= (12, 3)


def next_power(count: int) -> int:
    """The smallest power of two that is not less than `count`."""
    return 1 << (count - 1).bit_length()


# ---------------------------------------------------------------- decode

CACHE_BLOCK = 64  # cache positions that a program of the attention reads at once
LARGEST_SPLITS = 16


@dataclass(frozen=True)
class TileConfig:
    """Tiles of a matrix times a row: output rows at once, warps of a program, resident programs on each SM (0: one for
    every group of rows)."""

    rows: int
    warps: int
    programs: int


def candidates(linear: Linear) -> list[TileConfig]:
    """Configurations worth timing: between 64 and 128 bytes of weights a thread at once, so that enough loads are in
    flight."""
    width = next_power(linear.in_features)
    found = []
    for warps, loads, programs in (
        (4, 64, 4), (8, 64, 2), (16, 64, 1), (8, 32, 4), (4, 32, 6), (16, 32, 2), (8, 64, 3), (8, 64, 0), (4, 64, 0),
        (8, 32, 0),
    ):  # fmt: skip
        warps *= max(1, min(width // 4096, 2))  # a longer row needs more threads to hold it
        rows = 32 * warps * loads * 2 // linear.weight.element_size() // width // (2 if linear.gated else 1)
        config = TileConfig(rows, warps, programs)
        if 1 <= rows <= 16 and warps <= 32 and config not in found:
            found.append(config)
    return found or [TileConfig(1 if linear.gated else 2, min(16, max(4, width // 512)), 2)]


def split_counts(bucket: int) -> tuple[int, int]:
    """(parts that the bucket is split into, blocks of positions in each)."""
    blocks = -(-bucket // CACHE_BLOCK)
    tiles = -(-blocks // LARGEST_SPLITS)
    return -(-blocks // tiles), tiles


# ---------------------------------------------------------------- prefill

FEW_ROWS = 64  # up to so many tokens a product that is not `hopper`'s is `linear_rows_kernel`'s; above, cuBLAS's
# Up to so many tokens the attention itself rotates the keys and fills the cache; above, each key would be rotated by
# too many of the programs that read it.
FILLED_INSIDE = 112
PRODUCT_WARPS = 4
WARP_KEYS = 16 * 128  # elements of keys; more, and a program spills registers


@dataclass(frozen=True)
class ProductTiles:
    """Tiles of a product of a few rows; see `linear_rows_kernel`."""

    tokens: int
    rows: int  # of the weight; twice as many where it is gated
    columns: int  # of the weight, of each block
    stages: int  # blocks in flight or in use
    weight_first: bool  # as the left factor; Hopper's tensor cores take one of 64 rows or more from shared memory


# Rows, columns and stages of a plain product, a gated one, and one that is added to the residual: the fastest, or as
# fast within 2 %, in a whole prefill of Llama-2 7B on an H100 (float16: 10, 32 and 64 tokens; 8 bits: 10 and 50).
FLOAT_TILES = {
    16: ((64, 128, 6), (64, 128, 6), (64, 128, 6)),
    32: ((64, 128, 6), (64, 128, 6), (64, 128, 6)),
    64: ((32, 128, 3), (32, 128, 6), (64, 128, 6)),
}
INT8_TILES = {
    16: ((64, 128, 6), (64, 256, 2), (32, 256, 4)),
    64: ((64, 128, 4), (64, 128, 4), (64, 128, 8)),
}


def product_tiles(linear: Linear, count: int) -> ProductTiles:
    """Those of above, with as many stages as the device has shared memory for.

    Weights of 8 bits go to the tensor cores through registers: as the left factor, the layout of their bytes takes two
    more instructions for each, but as the right one, those for many tokens go back to shared memory first.
    """
    choices = FLOAT_TILES if linear.scale is None else INT8_TILES
    tokens = next(tile for tile in choices if count <= tile)
    rows, columns, stages = choices[tokens][1 if linear.gated else 2 if linear.residual else 0]
    element_bytes = linear.weight.element_size()
    weight_bytes = rows * (2 if linear.gated else 1) * element_bytes
    stage_bytes = (weight_bytes + tokens * max(element_bytes, 2)) * columns  # tokens: 16 bits or more
    stages = max(2, min(stages, shared_memory_bytes(linear.weight.device) // stage_bytes))
    weight_first = (tokens < 64) == (linear.scale is None)
    return ProductTiles(tokens, rows, columns, stages, weight_first)


def residual_parts(linear: Linear, count: int) -> int:
    """How many parts the columns of a product of a few rows are divided into that is added to the residual: its weight
    has few rows, so that few SMs would be occupied. Fastest in a whole prefill of Llama-2 7B on an H100 and an H200."""
    return 4 if linear.scale is not None and count <= 16 else 2


@dataclass(frozen=True)
class AttentionTiles:
    """Tokens of a program, keys that it reads at once, blocks of keys in flight or in use, and warps."""

    queries: int
    keys: int
    stages: int
    warps: int


# Over a filled cache, the fastest first on an H100 (heads of 128, 65 to 500 tokens).
FILLED_TILES = (
    AttentionTiles(64, 64, 3, 4), AttentionTiles(64, 64, 2, 4), AttentionTiles(64, 32, 2, 4),
    AttentionTiles(32, 32, 2, 4),
)  # fmt: skip


def attention_tiles(count: int, head_dim: int, element_bytes: int, program_bytes: int) -> AttentionTiles:
    """The first that fits a program: its shared memory (queries, and keys and values of each stage) and registers."""
    block = min(64, max(16, next_power(count)))
    choices = FILLED_TILES if count > FILLED_INSIDE else (AttentionTiles(block, block, 1, 8 if block == 64 else 4),)
    row_bytes = head_dim * element_bytes
    for tiles in choices:
        held_bytes = (tiles.queries + 2 * tiles.keys * tiles.stages) * row_bytes
        if held_bytes < program_bytes and tiles.keys * head_dim <= tiles.warps * WARP_KEYS:
            return tiles
    return AttentionTiles(16, 16, 1, 4)
