"""How the prefill kernels are started. Needs no triton to import."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from firsttoken.compiled.triton_launch import Attention, Matvec, multiprocessors, next_power

FEW_ROWS = 16  # up to so many tokens, which is what tensor cores take at once, a product is our kernel's
SMALLEST_HEAD = 16  # a tensor core's products are at least so deep
# Up to so many tokens the attention itself turns the keys and fills the cache; above, each key would be turned by every
# program that reads it. On an H100, at 10, 40, 64 and 500 tokens: 2.9, 5.7, 6.2 and 27.6 us inside, 3.9, 5.1, 5.7 and
# 21.2 us with the cache filled before.
FILLED_INSIDE = 32
FILL_BLOCK = 8
PRODUCT_DEPTH = 128  # columns of a weight that a program reads at once
PRODUCT_WARPS = 4
KEYS_IN_REGISTERS = 64 * 128  # more, and a program of four warps spills
LARGEST_BLOCK = 128  # rows of a weight
# Of 125 ways to cut the products of Llama-2 7B for 10 tokens that were timed on an H100, none was over 1 % faster than
# two programs on each multiprocessor, each with half of its shared memory full of loads under way.
PROGRAMS = 2
GATE_BLOCK = 1024


@dataclass(frozen=True)
class ProductCut:
    """How a product of a few rows is cut; see `triton_prompt_kernels.prompt_product_kernel`."""

    share: int  # rows of the weight a program
    block: int  # the power of two that holds them
    stages: int  # blocks of columns under way or in use

    @property
    def weight_first(self) -> bool:
        return self.block >= 64


def serves_prompts(keys: torch.Tensor) -> bool:
    """Whether these kernels are any good for a cache of such heads `[..., head_dim]`: float32 has no tensor cores that
    keep all of its digits, and without them a program's blocks do not fit its registers."""
    return keys.shape[-1] >= SMALLEST_HEAD and not (keys.is_cuda and keys.element_size() > 2)


def product_cut(product: Matvec) -> ProductCut:
    """Equal shares for all programs, and as many loads under way as the shared memory holds."""
    device = product.weight.device
    # Three under the interpreter, each with several blocks of rows.
    programs = PROGRAMS * multiprocessors(device.index or 0) if device.type == "cuda" else 3
    share = min(8 * -(-product.rows // (8 * programs)), LARGEST_BLOCK)
    block = max(16, next_power(share))
    weights = block * (2 if product.gated else 1)
    stage_bytes = (weights + FEW_ROWS) * PRODUCT_DEPTH * product.weight.element_size()
    return ProductCut(share, block, max(2, min(7, shared_bytes(device, PROGRAMS) // stage_bytes)))


@functools.cache
def shared_bytes(device: torch.device, programs: int = 1) -> int:
    """Shared memory that a program may have where so many share a multiprocessor."""
    if device.type != "cuda":
        return 1 << 16
    properties: Any = torch.cuda.get_device_properties(device)
    # Less what a program takes beside its own, and the KiB that the largest program leaves to the device.
    return int(properties.shared_memory_per_multiprocessor) // programs - 4096


def prompt_product(product: Matvec, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
    """`x` `[count, K]` with count <= FEW_ROWS -> `[count, rows]`; a norm before it is not computed here."""
    from firsttoken.compiled.triton_prompt_kernels import prompt_product_kernel

    cut = product_cut(product)
    out = torch.empty(x.shape[0], product.rows, dtype=x.dtype, device=x.device)
    prompt_product_kernel[(-(-product.rows // cut.share),)](
        x, product.weight, product.weight if product.bias is None else product.bias,
        x if residual is None else residual, out, x.shape[0], product.rows, cut.share, K=product.columns,
        BLOCK_M=FEW_ROWS, BLOCK_N=cut.block, BLOCK_K=min(PRODUCT_DEPTH, max(16, next_power(product.columns))),
        STAGES=cut.stages, WEIGHT_FIRST=cut.weight_first, GATED=product.gated, BIAS=product.bias is not None,
        RESIDUAL=residual is not None, num_warps=PRODUCT_WARPS,
    )  # fmt: skip
    return out


def norm_rows(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Each row of `[count, K]` divided by its root mean square."""
    from firsttoken.compiled.triton_prompt_kernels import norm_rows_kernel

    out = torch.empty_like(x)
    norm_rows_kernel[(x.shape[0],)](x, out, epsilon, K=x.shape[1], BLOCK_K=next_power(x.shape[1]), num_warps=8)
    return out


def gate_rows(both: torch.Tensor) -> torch.Tensor:
    """`[count, 2 * rows]`, gate before up -> silu(gate) * up."""
    from firsttoken.compiled.triton_prompt_kernels import gate_rows_kernel

    count, rows = both.shape[0], both.shape[1] // 2
    out = torch.empty(count, rows, dtype=both.dtype, device=both.device)
    gate_rows_kernel[(-(-rows // GATE_BLOCK), count)](both, out, ROWS=rows, BLOCK=GATE_BLOCK, num_warps=4)
    return out


def prompt_attention(how: Attention, qkv: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Store keys and values of a prompt at the cache's begin, attend within it; `[count, heads * head_dim]`."""
    from firsttoken.compiled.triton_prompt_kernels import fill_cache_kernel, prompt_attention_kernel

    count, kv_heads, head_dim = qkv.shape[0], how.keys.shape[1], how.keys.shape[3]
    out = torch.empty(count, how.heads * head_dim, dtype=qkv.dtype, device=qkv.device)
    q_gain, k_gain = (qkv if gain is None else gain for gain in (how.q_gain, how.k_gain))
    shape = {"HEADS": how.heads, "KV_HEADS": kv_heads, "D": head_dim, "QK_NORM": how.q_gain is not None}
    fill_before = count > FILLED_INSIDE
    if fill_before:
        fill_cache_kernel[(kv_heads, -(-count // FILL_BLOCK))](
            qkv, cosine, sine, k_gain, how.keys, how.values, count, how.epsilon, how.keys.stride(1),
            BLOCK=FILL_BLOCK, num_warps=4, **shape,
        )  # fmt: skip
    cut = attention_cut(count, head_dim, qkv.element_size(), shared_bytes(qkv.device))
    prompt_attention_kernel[(how.heads, -(-count // cut.queries))](
        qkv, cosine, sine, q_gain, k_gain, how.keys, how.values, out, count, how.scaling, how.epsilon,
        how.keys.stride(1), BLOCK_Q=cut.queries, BLOCK_KV=cut.keys, STAGES=cut.stages, FILLED=fill_before,
        WINDOW=how.window or 0, num_warps=4, **shape,
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class AttentionCut:
    """Tokens of a program, keys that it reads at once, and blocks of keys under way or in use."""

    queries: int
    keys: int
    stages: int


# Over a filled cache, the fastest first on an H100 (heads of 128, 65 to 500 tokens).
FILLED_CUTS = (AttentionCut(64, 64, 3), AttentionCut(64, 64, 2), AttentionCut(64, 32, 2), AttentionCut(32, 32, 2))


def attention_cut(count: int, head_dim: int, element_bytes: int, program_bytes: int) -> AttentionCut:
    """The first that fits a program: its shared memory (queries, and keys and values of each stage) and registers."""
    block = max(16, next_power(count))
    cuts = FILLED_CUTS if count > FILLED_INSIDE else (AttentionCut(block, block, 1),)
    row_bytes = head_dim * element_bytes
    fitting = [
        cut
        for cut in cuts
        if (cut.queries + 2 * cut.keys * cut.stages) * row_bytes < program_bytes
        and cut.keys * head_dim <= KEYS_IN_REGISTERS
    ]
    return fitting[0] if fitting else AttentionCut(16, 16, 1)
