"""Decoder layers for prompts of a few tokens, by the kernels of `triton_prompt`. Needs no triton to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from firsttoken.runtime.triton_launch import Attention, Matvec, launch_options

LONGEST_PROMPT = 16  # tokens: rows of one tensor-core product
SMALLEST_HEAD = 16  # numbers of a head, which such a product sums over


@dataclass(frozen=True)
class PromptConfig:
    """How a product of a few rows is cut: output columns and depth of a block, warps, blocks under way at once."""

    rows: int
    depth: int
    warps: int
    stages: int


def prompt_candidates(product: Matvec) -> list[PromptConfig]:
    """Configs worth timing; the gated form reads two blocks at once."""
    if product.gated:
        return [PromptConfig(*sizes) for sizes in ((32, 128, 4, 4), (32, 256, 4, 3), (64, 128, 4, 3), (64, 128, 8, 4))]
    sizes = [(32, 128, 4, 4), (32, 256, 4, 4), (64, 128, 4, 5), (16, 256, 4, 5), (128, 128, 8, 4)]
    return [PromptConfig(*size) for size in sizes]


def prompt_product(
    product: Matvec, x: torch.Tensor, out: torch.Tensor, config: PromptConfig, pdl: bool, residual: Any = None
) -> None:
    """Queue `product` of `x` `[count, K]` into `out` `[count, rows]`; both contiguous, at most LONGEST_PROMPT rows."""
    from firsttoken.runtime.triton_prompt import prompt_product_kernel

    if product.gain is not None:
        raise ValueError("a product of a prompt takes no gain: fold it into the weight")
    prompt_product_kernel[(-(-product.rows // config.rows),)](
        x, product.weight, product.weight if product.bias is None else product.bias,
        x if residual is None else residual,
        out, x.numel() // product.columns, product.rows, 0.0 if product.epsilon is None else product.epsilon,
        K=product.columns, BLOCK_M=LONGEST_PROMPT, BLOCK_N=config.rows, BLOCK_K=config.depth, STAGES=config.stages,
        GATED=product.gated, NORM=product.epsilon is not None, BIAS=product.bias is not None,
        RESIDUAL=residual is not None, PDL=pdl, num_warps=config.warps, **launch_options(pdl),
    )  # fmt: skip


def prompt_attention(
    how: Attention, qkv: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, pdl: bool
) -> torch.Tensor:
    """`qkv` `[..., count, (heads + 2 kv_heads) * head_dim]` -> `[1, count, heads * head_dim]`; fills the cache."""
    from firsttoken.runtime.triton_prompt import prompt_attention_kernel

    count, kv_heads, head_dim = qkv.shape[-2], how.keys.shape[1], how.keys.shape[3]
    out = torch.empty(1, count, how.heads * head_dim, dtype=qkv.dtype, device=qkv.device)
    prompt_attention_kernel[(how.heads,)](
        qkv, cosine, sine, qkv if how.q_gain is None else how.q_gain, qkv if how.k_gain is None else how.k_gain,
        how.keys, how.values, out, count, how.scaling, how.epsilon, how.keys.stride(1),
        HEADS=how.heads, KV_HEADS=kv_heads, D=head_dim, BLOCK_M=LONGEST_PROMPT, WINDOW=how.window or 0,
        QK_NORM=how.q_gain is not None, PDL=pdl, num_warps=4, **launch_options(pdl),
    )  # fmt: skip
    return out


class PromptLayerKernels:
    """One decoder layer for a prompt of 2 to LONGEST_PROMPT tokens; five kernels."""

    def __init__(
        self, products: tuple[Matvec, ...], attention: Attention, configs: dict[str, PromptConfig], pdl: bool
    ) -> None:
        self._products, self._attention, self._pdl = products, attention, pdl
        self._configs = [configs[product.key()] for product in products]

    def __call__(
        self, hidden_states: torch.Tensor, *_: Any, position_embeddings: tuple[torch.Tensor, torch.Tensor], **__: Any
    ) -> torch.Tensor:
        """`hidden_states` `[1, count, hidden]`; cosine and sine `[1, count, head_dim]`."""
        cosine, sine = position_embeddings
        attended = prompt_attention(self._attention, self._run(0, hidden_states), cosine, sine, self._pdl)
        after = self._run(1, attended, hidden_states)
        return self._run(3, self._run(2, after), after)

    def _run(self, index: int, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        product = self._products[index]
        out = torch.empty(1, x.shape[1], product.rows, dtype=x.dtype, device=x.device)
        prompt_product(product, x, out, self._configs[index], self._pdl, residual)
        return out
