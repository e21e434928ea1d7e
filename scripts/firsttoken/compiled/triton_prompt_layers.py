"""Decoder layers of a prefill, by the kernels of `triton_prompt_kernels`, and by cuBLAS for products of many rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from firsttoken.compiled.triton_launch import Attention, Matvec
from firsttoken.compiled.triton_prompt import FEW_ROWS, gate_rows, norm_rows, prompt_attention, prompt_product


class PromptLayer:
    """One decoder layer over a prompt: seven kernels up to FEW_ROWS tokens, eight or nine above.

    What `hidden_states` comes in is overwritten by what goes out: the residual is added in place.
    """

    def __init__(self, qkv: Matvec, o: Matvec, gate_up: Matvec, down: Matvec, attention: Attention) -> None:
        self._qkv, self._o, self._gate_up, self._down, self._attention = qkv, o, gate_up, down, attention

    def __call__(
        self, hidden_states: torch.Tensor, *_: Any, position_embeddings: tuple[torch.Tensor, torch.Tensor], **__: Any
    ) -> torch.Tensor:
        """`hidden_states` `[1, count, hidden]`; cosine and sine `[1, count, head_dim]`."""
        cosine, sine = position_embeddings
        rows = hidden_states.view(hidden_states.shape[1], -1)
        attended = prompt_attention(self._attention, rows_product(self._qkv, rows), cosine, sine)
        after = rows_product(self._o, attended, rows)
        return rows_product(self._down, rows_product(self._gate_up, after), after)[None]


def rows_product(product: Matvec, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
    """`product` of each row of `x` `[count, K]`; `residual` `[count, rows]` may be overwritten by what returns."""
    if product.epsilon is not None:
        x = norm_rows(x, product.epsilon)
    if x.shape[0] <= FEW_ROWS:
        return prompt_product(product, x, residual)
    if residual is not None:
        if product.bias is not None:
            residual = residual.add_(product.bias)
        with _cublaslt(x.device):
            return residual.addmm_(x, product.weight.t())
    out = functional.linear(x, product.weight, product.bias)
    return gate_rows(out) if product.gated else out


@contextmanager
def _cublaslt(device: torch.device) -> Iterator[None]:
    """Products within by cuBLASLt. What it chooses for one that adds to its result took 63 us where cuBLAS took 66 (500
    rows, 11008 columns, 4096 out, float16, H100), and as long for 4096 columns."""
    if device.type != "cuda":
        yield
        return
    library = torch.backends.cuda.preferred_blas_library
    before = library()
    library("cublaslt")  # torch says on stderr, once a process, that this choice is experimental
    try:
        yield
    finally:
        library(before)
