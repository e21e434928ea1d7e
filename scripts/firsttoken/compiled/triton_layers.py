"""Decoder layers, last norm and head of a step, by the kernels of `triton_kernels` and not by the compiler's.

For layers of one shape: RMS norm, attention with rotary positions, residual, RMS norm, gated MLP with silu, residual;
QKV and gate/up fused, the norms folded into them. What is found by names here is proved by the caller, which compares
the logits of the whole model. Other layers stay with the compiler, and `Unserved` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from firsttoken.compiled.compiled_attention import DecodeView, LayerKV
from firsttoken.compiled.folded_norms import norm_formula
from firsttoken.compiled.fused_projections import FusedWeight, ProjectionSlice
from firsttoken.compiled.triton_launch import (
    Attention,
    Matvec,
    MatvecConfig,
    attention,
    can_serve,
    is_available,
    matvec,
)
from firsttoken.compiled.triton_prompt import serves_prompts
from firsttoken.compiled.triton_prompt_layers import PromptLayer
from firsttoken.compiled.triton_tuning import Tuner

LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION_PARTS = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}
MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}

Modules = dict[nn.Module, Callable[..., Any]]


class Unserved(Exception):
    """These kernels do not compute this model, or cannot run here; the message says why."""


@dataclass(frozen=True)
class LayerProducts:
    """The four products of one layer, in their order, and its attention."""

    qkv: Matvec
    o: Matvec
    gate_up: Matvec
    down: Matvec
    attention: Attention

    @property
    def all(self) -> tuple[Matvec, ...]:
        return self.qkv, self.o, self.gate_up, self.down


@dataclass(frozen=True)
class WrittenModules:
    """What to call in the place of modules, by what a step computes."""

    decode: Modules = field(default_factory=dict)
    prefill: Modules = field(default_factory=dict)

    @property
    def has_prompt_layers(self) -> bool:
        return any(isinstance(function, PromptLayer) for function in self.prefill.values())


def written_modules(model: Any, view: DecodeView, tuner: Tuner, pdl: bool) -> WrittenModules:
    """Layers, last norm and head for a single row; layers and head for a prompt, whose head sees its last row only."""
    device = next(model.parameters()).device
    if not is_available(device):
        raise Unserved(f"Triton cannot compile for this device ({device.type})")
    base = model.base_model
    layers = next(child for child in base.children() if isinstance(child, nn.ModuleList))
    parts = [layer_products(layer) for layer in layers]
    norms = [child for child in base.children() if type(child).__name__.endswith("RMSNorm")]
    head = model.get_output_embeddings()
    last = _head_product(norms[0], head) if len(norms) == 1 else None
    by_key: dict[str, list[Matvec]] = {}
    for product in (p for part in parts for p in part.all):
        by_key.setdefault(product.key(), []).append(product)
    configs = {key: tuner.choose(products) for key, products in by_key.items()}
    decode: Modules = {layer: LayerKernels(part, view, configs, pdl) for layer, part in zip(layers, parts, strict=True)}
    prefill: Modules = {}
    if serves_prompts(parts[0].attention.keys):
        for layer, part in zip(layers, parts, strict=True):
            prefill[layer] = PromptLayer(part.qkv, part.o, part.gate_up, part.down, part.attention)
    if last is not None:
        config = tuner.choose([last])
        decode |= {norms[0]: lambda hidden: hidden, head: RowProduct(last, config, pdl)}
        prefill[head] = RowProduct(replace(last, epsilon=None, gain=None), config, pdl)
    return WrittenModules(decode, prefill)


class RowProduct:
    """A linear module for a single row; `hidden` `[1, 1, K]` -> `[1, 1, rows]`."""

    def __init__(self, product: Matvec, config: MatvecConfig, pdl: bool) -> None:
        self._product, self._config, self._pdl = product, config, pdl

    def __call__(self, hidden: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        out = torch.empty(1, 1, self._product.rows, dtype=hidden.dtype, device=hidden.device)
        matvec(self._product, hidden, out, self._config, self._pdl, residual)
        return out


class LayerKernels:
    """One decoder layer for a single row; six kernels (five where the bucket is one block)."""

    def __init__(self, parts: LayerProducts, view: DecodeView, configs: dict[str, MatvecConfig], pdl: bool) -> None:
        self._qkv, self._o, self._gate_up, self._down = (
            RowProduct(product, configs[product.key()], pdl) for product in parts.all
        )
        self._attention, self._view, self._pdl = parts.attention, view, pdl

    def __call__(
        self, hidden_states: torch.Tensor, *_: Any, position_embeddings: tuple[torch.Tensor, torch.Tensor], **__: Any
    ) -> torch.Tensor:
        """`hidden_states` `[1, 1, hidden]`; cosine and sine `[1, 1, head_dim]`."""
        cosine, sine = position_embeddings
        qkv = self._qkv(hidden_states)
        attended = attention(self._attention, qkv, cosine, sine, self._view.bucket, self._pdl)
        after = self._o(attended, hidden_states)
        return self._down(self._gate_up(after), after)


# ------------------------------------------------------------------ what a layer is made of


def layer_products(layer: nn.Module) -> LayerProducts:
    """The products of a layer whose parts have the usual names. Raises Unserved."""
    attend, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    if not isinstance(attend, nn.Module) or not isinstance(mlp, nn.Module):
        raise Unserved(f"{type(layer).__name__} has no self_attn and mlp")
    for module, known in ((layer, LAYER_PARTS), (attend, ATTENTION_PARTS), (mlp, MLP_PARTS)):
        others = {name for name, _ in module.named_children()} - known
        if others:
            raise Unserved(f"{type(module).__name__} has {', '.join(sorted(others))}, which the kernels do not compute")
    _check_silu(mlp)
    qkv, gate_up = _fused(attend, "q_proj", "k_proj", "v_proj"), _fused(mlp, "gate_proj", "up_proj")
    products = LayerProducts(
        qkv=Matvec(qkv.weight.data, _data(qkv.bias), epsilon=qkv.epsilon),
        o=_residual(attend, "o_proj"),
        gate_up=Matvec(gate_up.weight.data, _data(gate_up.bias), epsilon=gate_up.epsilon, gated=True),
        down=_residual(mlp, "down_proj"),
        attention=_attention(attend),
    )
    if not all(can_serve(product) for product in products.all):
        raise Unserved(f"{type(layer).__name__} has weights of a size that the kernels do not serve")
    return products


def _data(parameter: nn.Parameter | None) -> torch.Tensor | None:
    return None if parameter is None else parameter.data


def _fused(parent: nn.Module, *names: str) -> FusedWeight:
    slices = [parent._modules.get(name) for name in names]
    weights = {part.fused for part in slices if isinstance(part, ProjectionSlice)}
    if len(weights) != 1 or not all(isinstance(part, ProjectionSlice) for part in slices):
        raise Unserved(f"{type(parent).__name__}: {', '.join(names)} are not fused")
    (fused,) = weights
    if fused.epsilon is None:
        raise Unserved(f"{type(parent).__name__}: no RMS norm is folded into {', '.join(names)}")
    return fused


def _residual(parent: nn.Module, name: str) -> Matvec:
    linear = parent._modules.get(name)
    if type(linear) is not nn.Linear:
        raise Unserved(f"{type(parent).__name__}: {name} is not a plain linear module")
    return Matvec(linear.weight.data, _data(linear.bias), residual=True)


def _check_silu(mlp: nn.Module) -> None:
    tried = torch.linspace(-6.0, 6.0, 49)
    function: Any = getattr(mlp, "act_fn", None)
    if not callable(function) or not torch.allclose(function(tried), functional.silu(tried), atol=1e-5):
        raise Unserved(f"{type(mlp).__name__}: the gate's function is not silu")


def _attention(module: nn.Module) -> Attention:
    kv: Any = getattr(module, "layer_kv", None)
    if not isinstance(kv, LayerKV) or kv.call is None:
        raise Unserved(f"{type(module).__name__} has no cache attached")
    head_dim = kv.keys.shape[3]
    if kv.values.shape[3] != head_dim or head_dim & (head_dim - 1) or head_dim < 8:
        raise Unserved(f"{type(module).__name__}: head sizes {head_dim} and {kv.values.shape[3]}, not a power of two")
    if kv.call.softcap is not None:
        raise Unserved(f"{type(module).__name__}: attention scores are capped")
    (q_gain, epsilon), (k_gain, _) = (_gain(module, name) for name in ("q_norm", "k_norm"))
    if (q_gain is None) != (k_gain is None) or (q_gain is not None and q_gain.numel() != head_dim):
        raise Unserved(f"{type(module).__name__}: its norms of queries and keys are not one of each head")
    return Attention(
        kv.keys, kv.values, kv.position, kv.call.heads, kv.call.scaling, kv.call.window, q_gain, k_gain, epsilon
    )


def _gain(parent: nn.Module, name: str) -> tuple[torch.Tensor | None, float]:
    """The gain (float32) and epsilon of a norm that is there."""
    norm = parent._modules.get(name)
    if norm is None:
        return None, 0.0
    formula = norm_formula(norm)
    if formula is None:
        raise Unserved(f"{type(parent).__name__}: {name} is not a plain RMS norm")
    weight: Any = norm.weight
    return weight.data.float() + formula.offset, formula.epsilon


def _head_product(norm: nn.Module, head: Any) -> Matvec | None:
    """The head behind the last norm, which may share its weight with the embedding, so that nothing is folded in."""
    formula = norm_formula(norm)
    if formula is None or type(head) is not nn.Linear:
        return None
    weight: Any = norm.weight
    gain = weight.data.float() + formula.offset
    product = Matvec(head.weight.data, _data(head.bias), epsilon=formula.epsilon, gain=gain)
    return product if can_serve(product) else None
