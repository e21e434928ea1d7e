"""RMS norms folded into the matrix products that follow them, so that a decode step has fewer, larger kernels.

A norm before a product is a kernel of its own that the whole device waits for. But W (g * x / rms(x)) = ((W g) x) /
rms(x): the gain g goes into the weights once, and for a single row the product's own kernel, which reads all of x
anyway, finds rms(x) on the way. Longer inputs keep the norm, without its gain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from firsttoken.compiled.fused_projections import FusedWeight

# Between what a norm gives and what its formula says, in float32: rounding only.
LARGEST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class _Formula:
    """A norm that computes x / rms(x) * (offset + weight)."""

    offset: float
    epsilon: float


def fold_norms(model: Any, trial: Callable[[], object]) -> int:
    """Fold each RMS norm whose output goes to fused projections; `trial` runs the model once. Returns how many.

    What follows what is seen in the trial (by identity of the tensors), not guessed from names. If something else uses
    a folded norm's output too, the model's logits change: the caller compares them.
    """
    followers = _followers(model, trial)
    folded = 0
    for norm, products in followers.items():
        formula = norm_formula(norm)
        if formula is None:
            continue
        weight: torch.Tensor = norm.weight  # type: ignore[assignment]
        gain = weight.data.float() + formula.offset
        for product in products:
            product.weight.data.copy_((product.weight.data.float() * gain).to(product.weight.dtype))
            product.epsilon = formula.epsilon
        weight.data.fill_(1.0 - formula.offset)
        norm.__class__ = _without_one_row(type(norm))  # type: ignore[arg-type]
        folded += 1
    return folded


@functools.cache
def _without_one_row(kind: type[nn.Module]) -> type[nn.Module]:
    """A norm that leaves a single row to the product behind it.

    A class, not a function on each module: layers must stay alike for one compilation to serve them all.
    """

    def forward(self: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.shape[-2] == 1:
            return hidden
        normed: torch.Tensor = kind.forward(self, hidden)
        return normed

    return type(kind.__name__, (kind,), {"forward": forward})


def _followers(model: nn.Module, trial: Callable[[], object]) -> dict[nn.Module, list[FusedWeight]]:
    outputs: list[tuple[torch.Tensor, nn.Module]] = []
    followers: dict[nn.Module, list[FusedWeight]] = {}

    def note_output(norm: nn.Module, _: Any, output: torch.Tensor) -> None:
        outputs.append((output, norm))

    def note_input(product: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(product, FusedWeight)
        for output, norm in outputs:
            known = followers.setdefault(norm, []) if output is arguments[0] else None
            if known is not None and product not in known:
                known.append(product)

    hooks: list[Any] = []
    for module in model.modules():
        if isinstance(module, FusedWeight):
            hooks.append(module.register_forward_pre_hook(note_input))
        elif type(module).__name__.endswith("RMSNorm"):
            hooks.append(module.register_forward_hook(note_output))
    try:
        trial()
    finally:
        for hook in hooks:
            hook.remove()
    return followers


def norm_formula(norm: nn.Module) -> _Formula | None:
    """What the norm computes, found by trying it; None where it is something else."""
    stored: Any = getattr(norm, "weight", None)
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if not isinstance(stored, nn.Parameter) or not isinstance(epsilon, float):
        return None
    gain = stored.data.float()
    hidden = torch.linspace(-2.0, 3.0, gain.numel(), device=gain.device)[None, None]
    whole = hidden * torch.rsqrt(hidden.square().mean() + epsilon)
    try:
        norm.weight = nn.Parameter(gain, requires_grad=False)
        given = norm(hidden)
    finally:
        norm.weight = stored
    for offset in (0.0, 1.0):
        if (given - whole * (gain + offset)).abs().max() < LARGEST_DIFFERENCE:
            return _Formula(offset, epsilon)
    return None
