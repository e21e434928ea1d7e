"""One matrix product where a model has two or three over the same input: Q, K and V; gate and up.

At batch 1 a decode step reads every weight once, so what counts is how few, large reads it makes. The weights of the
projections are laid one below the other in one tensor; each projection stays where the model expects it. The first to
be called computes the whole product and keeps it for its siblings, which the model calls next with the same input;
each takes its own rows. A compiler that traces this sees one product (Inductor would not merge three equal ones).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class FusedWeight(nn.Module):
    """The common weight `[rows of all siblings, in_features]` and bias of sibling projections."""

    def __init__(self, projections: list[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([p.weight.data for p in projections]), requires_grad=False)
        biases = [p.bias.data for p in projections if p.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        self.epsilon: float | None = None  # set by `folded_norms`: a single row comes without its RMS norm
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, hidden: torch.Tensor, last_sibling: bool) -> torch.Tensor:
        kept, self._kept = self._kept, None
        # Identity, not equality: the model hands the very same tensor to all siblings.
        product = kept[1] if kept and kept[0] is hidden else self._product(hidden, 0, self.weight.shape[0])
        if not last_sibling:
            self._kept = (hidden, product)
        return product

    def rows(self, hidden: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Some rows of the product alone."""
        return self._product(hidden, start, stop)

    def _product(self, hidden: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        weight = self.weight[start:stop]
        bias = None if self.bias is None else self.bias[start:stop]
        if self.epsilon is None or hidden.shape[-2] != 1:
            return functional.linear(hidden, weight, bias)
        row = hidden.reshape(-1).float()
        # Summed once for each row of the weight, in vain but for this: it is the same loop as the product's, so a
        # compiler makes one kernel of both.
        squares = (row * row).expand(weight.shape).sum(-1)
        product = (weight.float() * row).sum(-1) * torch.rsqrt(squares / row.shape[0] + self.epsilon)
        product = product if bias is None else product + bias
        return product.to(hidden.dtype).view(*hidden.shape[:-1], stop - start)


class ProjectionSlice(nn.Module):
    """Stands where one of the siblings stood; `hidden` `[..., in_features]` -> its own rows `[..., stop - start]`."""

    def __init__(self, fused: FusedWeight, start: int, stop: int, last_sibling: bool) -> None:
        super().__init__()
        self.fused = fused
        self.start, self.stop, self.last_sibling = start, stop, last_sibling
        # For a single row, gate and up apart: a compiler then joins their loops and what follows both in one kernel.
        self.apart = False
        self.in_features, self.out_features = fused.weight.shape[1], stop - start

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.apart and hidden.shape[-2] == 1:
            return self.fused.rows(hidden, self.start, self.stop)
        rows: torch.Tensor = self.fused(hidden, self.last_sibling)[..., self.start : self.stop]
        return rows


def fuse_projections(model: nn.Module) -> int:
    """Fuse all sibling projections of `model` in place, one group at a time: no second copy of the weights exists.

    Returns how many groups were fused; 0 for a model that is fused already (GPT-2) or names its projections otherwise.
    """
    groups = 0
    # By name: a list of all modules would keep every projection alive that was replaced, and with it a second copy.
    for path in [path for path, _ in model.named_modules()]:
        parent = model.get_submodule(path)
        for names in SIBLINGS:
            projections = [parent._modules.get(name) for name in names]
            if _can_fuse(projections):
                _fuse(parent, names, [p for p in projections if isinstance(p, nn.Linear)])
                groups += 1
                # Give the siblings' memory back now, or the reserved memory would peak at twice the weights.
                torch.cuda.empty_cache()
    return groups


def part_gate_and_up(model: nn.Module) -> None:
    """Compute gate and up apart for single rows."""
    for parent in model.modules():
        for name in SIBLINGS[1]:
            projection = parent._modules.get(name)
            if isinstance(projection, ProjectionSlice):
                projection.apart = True


def _can_fuse(projections: list[nn.Module | None]) -> bool:
    """Plain linear modules (no subclass, which may quantise or adapt) of one input size, all with a bias or none."""
    linear = [p for p in projections if type(p) is nn.Linear]
    if len(linear) != len(projections):
        return False
    return len({(p.in_features, p.bias is None, p.weight.dtype, p.weight.device) for p in linear}) == 1


def _fuse(parent: nn.Module, names: tuple[str, ...], projections: list[nn.Linear]) -> None:
    fused = FusedWeight(projections)
    start = 0
    for name, projection in zip(names, projections, strict=True):
        stop = start + projection.out_features
        setattr(parent, name, ProjectionSlice(fused, start, stop, last_sibling=name == names[-1]))
        start = stop
