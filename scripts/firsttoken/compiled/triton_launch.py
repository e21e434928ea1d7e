"""How the decode kernels are started: grids, block sizes, and the shapes that they serve. Needs no triton to import."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from typing import Any

import torch

LARGEST_INPUT = 32768  # columns of a weight: a program holds the whole input row in registers
CACHE_BLOCK = 64  # cache positions that a program of the attention reads at once
LARGEST_SPLITS = 16


@dataclass(frozen=True)
class MatvecConfig:
    """How a matrix times a row is cut: output rows at once, warps of a program, programs that stay on each
    multiprocessor (0: one for every group of rows)."""

    rows: int
    warps: int
    programs: int


@dataclass(frozen=True)
class Matvec:
    """One product: `weight` `[rows, K]` and what happens before and after it; see `triton_kernels.matvec_kernel`."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    epsilon: float | None = None  # the input is divided by its root mean square first
    gain: torch.Tensor | None = None  # and multiplied by this, if it is not folded into the weight
    gated: bool = False
    residual: bool = False

    @property
    def rows(self) -> int:
        """Numbers that come out."""
        return self.weight.shape[0] // 2 if self.gated else self.weight.shape[0]

    @property
    def columns(self) -> int:
        return self.weight.shape[1]

    def key(self) -> str:
        """What a tuned config depends on."""
        parts = [name for name in ("gated", "residual") if getattr(self, name)]
        parts += [name for name in ("bias", "epsilon", "gain") if getattr(self, name) is not None]
        return f"matvec {self.rows}x{self.columns} {self.weight.dtype} {'+'.join(parts) or 'plain'}"


def is_available(device: torch.device) -> bool:
    """Triton compiles for CUDA; on a CPU it serves under its interpreter only (TRITON_INTERPRET=1)."""
    if importlib.util.find_spec("triton") is None:
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return interpreted()


def interpreted() -> bool:
    """Whether kernels run in Python on the CPU, as the tests have it."""
    if importlib.util.find_spec("triton") is None:
        return False
    import triton

    return bool(triton.knobs.runtime.interpret)


def out_of_resources() -> type[Exception]:
    """What Triton raises for a kernel that takes more registers or shared memory than the device has."""
    from triton.runtime.errors import OutOfResources

    found: type[Exception] = OutOfResources
    return found


@functools.cache
def multiprocessors(index: int) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def next_power(count: int) -> int:
    return 1 << (count - 1).bit_length()


def can_serve(product: Matvec) -> bool:
    """Contiguous, rows of whole 16-byte pieces, not too wide."""
    weight = product.weight
    fits = 16 <= weight.shape[1] <= LARGEST_INPUT and weight.shape[1] * weight.element_size() % 16 == 0
    return fits and weight.is_contiguous() and weight.data_ptr() % 16 == 0


def default_config(product: Matvec) -> MatvecConfig:
    """A fair choice where nothing was tuned."""
    warps = min(16, max(4, next_power(product.columns) // 512))
    return MatvecConfig(1 if product.gated else 2, warps, 2)


def candidates(product: Matvec) -> list[MatvecConfig]:
    """Configs worth timing: between 32 and 64 weights a thread at once, so that enough loads are under way."""
    width = next_power(product.columns)
    found = []
    for warps, loads, programs in (
        (4, 64, 4), (8, 64, 2), (16, 64, 1), (8, 32, 4), (4, 32, 6), (16, 32, 2), (8, 64, 3), (8, 64, 0),
    ):  # fmt: skip
        warps *= max(1, min(width // 4096, 2))  # a longer row needs more threads to hold it
        rows = 32 * warps * loads // width // (2 if product.gated else 1)
        config = MatvecConfig(rows, warps, programs)
        if 1 <= rows <= 16 and warps <= 32 and config not in found:
            found.append(config)
    return found or [default_config(product)]


def matvec(
    product: Matvec, x: torch.Tensor, out: torch.Tensor, config: MatvecConfig, pdl: bool, residual: Any = None
) -> None:
    """Queue `product` of the row `x` `[..., K]` into `out` `[..., rows]`; both contiguous."""
    from firsttoken.compiled.triton_kernels import matvec_kernel

    groups = -(-product.rows // config.rows)
    programs = groups
    if config.programs and x.is_cuda:
        programs = min(groups, config.programs * multiprocessors(x.device.index or 0))
    elif config.programs:
        programs = min(groups, 3)  # under the interpreter: some programs that have several groups
    matvec_kernel[(programs,)](
        x, product.weight, product.weight if product.bias is None else product.bias,
        product.weight if product.gain is None else product.gain, x if residual is None else residual, out,
        product.rows, 0.0 if product.epsilon is None else product.epsilon,
        K=product.columns, BLOCK_N=config.rows, BLOCK_K=next_power(product.columns), GATED=product.gated,
        NORM=product.epsilon is not None, GAIN=product.gain is not None, BIAS=product.bias is not None,
        RESIDUAL=residual is not None, PDL=pdl, num_warps=config.warps, **launch_options(pdl),
    )  # fmt: skip


def launch_options(pdl: bool) -> dict[str, bool]:
    return {"launch_pdl": True} if pdl else {}


@dataclass(frozen=True)
class Attention:
    """What one layer's attention needs beside its input."""

    keys: torch.Tensor  # [1, kv_heads, positions, head_dim]
    values: torch.Tensor
    position: torch.Tensor
    heads: int
    scaling: float
    window: int | None = None
    q_gain: torch.Tensor | None = None  # float32 [head_dim]: RMS norm of each query and key
    k_gain: torch.Tensor | None = None
    epsilon: float = 0.0


def splits_of(bucket: int) -> tuple[int, int]:
    """(parts that the bucket is cut into, blocks of positions in each)."""
    blocks = -(-bucket // CACHE_BLOCK)
    tiles = -(-blocks // LARGEST_SPLITS)
    return -(-blocks // tiles), tiles


def attention(
    how: Attention, qkv: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, bucket: int, pdl: bool
) -> torch.Tensor:
    """Store the new key and value at the position, attend to the first `bucket` positions; `[heads * head_dim]`."""
    from firsttoken.compiled.triton_kernels import attention_kernel, combine_kernel

    kv_heads, head_dim = how.keys.shape[1], how.keys.shape[3]
    splits, tiles = splits_of(bucket)
    out = torch.empty(how.heads * head_dim, dtype=qkv.dtype, device=qkv.device)
    parts = torch.empty(splits, how.heads, head_dim + 2, dtype=torch.float32, device=qkv.device).view(-1)
    count = splits * how.heads
    partial, tops, sums = parts[: count * head_dim], parts[count * head_dim : -count], parts[-count:]
    options = launch_options(pdl)
    attention_kernel[(how.heads, splits)](
        qkv, cosine, sine, qkv if how.q_gain is None else how.q_gain, qkv if how.k_gain is None else how.k_gain,
        how.keys, how.values, how.position, partial, tops, sums, out, how.scaling, how.epsilon, how.keys.stride(1),
        HEADS=how.heads, KV_HEADS=kv_heads, D=head_dim, BLOCK=CACHE_BLOCK, TILES=tiles, SPLITS=splits,
        WINDOW=how.window or 0, QK_NORM=how.q_gain is not None, PDL=pdl, num_warps=4, **options,
    )  # fmt: skip
    if splits > 1:
        combine_kernel[(how.heads,)](
            partial, tops, sums, out, HEADS=how.heads, D=head_dim, SPLITS=splits, BLOCK_S=next_power(splits), PDL=pdl,
            num_warps=2, **options,
        )  # fmt: skip
    return out
