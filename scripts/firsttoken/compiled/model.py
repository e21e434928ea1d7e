"""Our own decoder for Llama-like models: the whole forward pass, in the order in which data runs through it.

A layer is RMS norm, attention with rotary positions, residual, RMS norm, gated MLP with SiLU, residual. Q, K and V are
one product, gate and up another. The norms before them are part of the product for a single row; for a prompt they are
a kernel that first adds the sum before them. Their gains are folded into the weights:
W (g * x / rms(x)) = ((W g) x) / rms(x). Imports triton.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from firsttoken.compiled.coverage import head_size
from firsttoken.compiled.decode import attention_row, linear_row
from firsttoken.compiled.int8 import dequantised, quantised
from firsttoken.compiled.prefill import add_linear_rows, add_norm_rows, attention_rows, linear_rows
from firsttoken.compiled.tiles import Attention, Linear, TileConfig, candidates
from firsttoken.compiled.tuning import Tuner

KVCache = list[tuple[torch.Tensor, torch.Tensor]]  # keys, values of each layer, [1, kv_heads, positions, head_dim]


@dataclass(frozen=True)
class Layer:
    """The four products of a decoder layer, and its attention."""

    qkv: Linear
    attention: Attention
    o: Linear
    gate_up: Linear
    down: Linear


class Decoder:
    """Embedding, layers, last norm and head. `tune` comes before the first decode step."""

    def __init__(self, embedding: torch.Tensor, layers: list[Layer], head: Linear, head_dim: int) -> None:
        self.embedding, self.layers, self.head, self.head_dim = embedding, layers, head, head_dim
        self._tiles: dict[str, TileConfig] = {}

    # ------------------------------------------------------------ the forward pass

    def decode(
        self, token: torch.Tensor, position: torch.Tensor, cache: KVCache, bucket: int, logits: torch.Tensor
    ) -> None:
        """One token `[1, 1]` at `position` `[1]` to `logits` `[1, vocab]`, over `bucket` positions of the cache."""
        x = functional.embedding(token[0], self.embedding)
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            qkv = self._row(layer.qkv, x)
            attended = attention_row(layer.attention, qkv, keys, values, position, bucket)
            x = self._row(layer.o, attended, residual=x)
            x = self._row(layer.down, self._row(layer.gate_up, x), residual=x)
        self._row(self.head, x, out=logits)

    def prefill(self, ids: torch.Tensor, last: torch.Tensor, cache: KVCache, logits: torch.Tensor) -> None:
        """A prompt `ids` `[count]`, padding included, to `logits` `[1, vocab]` of the token at index `last` `[1]`."""
        x, parts = functional.embedding(ids, self.embedding), None  # parts of a sum that are yet to be added to x
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            qkv = linear_rows(layer.qkv, add_norm_rows(x, parts, layer.qkv.epsilon))
            parts = add_linear_rows(layer.o, attention_rows(layer.attention, qkv, keys, values), x)
            gated = linear_rows(layer.gate_up, add_norm_rows(x, parts, layer.gate_up.epsilon))
            parts = add_linear_rows(layer.down, gated, x)
        add_norm_rows(x, parts, epsilon=None)
        self._row(self.head, x.index_select(0, last), out=logits)

    def _row(self, linear: Linear, x: torch.Tensor, **buffers: torch.Tensor) -> torch.Tensor:
        return linear_row(linear, x, self._tiles[linear.key()], **buffers)

    # ------------------------------------------------------------ made ready

    def new_cache(self, positions: int, shared: bool = False) -> KVCache:
        """An empty KV cache; `shared`: one layer's in the place of all, somewhere for a warm-up to write."""

        def one() -> tuple[torch.Tensor, torch.Tensor]:
            size = (1, self.layers[0].attention.kv_heads, positions, self.head_dim)
            return tuple(self.embedding.new_zeros(size) for _ in range(2))  # type: ignore[return-value]

        return [one()] * len(self.layers) if shared else [one() for _ in self.layers]

    def tune(self, folder: str, step: Callable[[], None]) -> Tuner:
        """Find the tiles of each product of a decode step, with which `step` calls `decode`; `folder` keeps them."""
        products = {linear.key(): linear for layer in self.layers for linear in _products(layer)}
        products[self.head.key()] = self.head
        self._tiles = {key: candidates(linear)[0] for key, linear in products.items()}
        tuner = Tuner(folder)
        for key, linear in products.items():

            def step_with(config: TileConfig, key: str = key) -> Callable[[], None]:
                self._tiles[key] = config
                return step

            self._tiles[key] = tuner.choose(linear, step_with)
        return tuner

    def fold_norms(self, gains: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Move the gains of each layer's two norms into the products behind them, in place: they become ones."""
        for layer, layer_gains in zip(self.layers, gains, strict=True):
            for linear, gain in zip((layer.qkv, layer.gate_up), layer_gains, strict=True):
                linear.weight.mul_(gain)
                gain.fill_(1)

    def quantise(self) -> None:
        """Make all weights 8-bit but the embedding, layer by layer; nothing else may hold the float weights.

        A head that is tied to the embedding is quantised as a copy: a step reads all of it, and one row of the
        embedding.
        """
        for index, layer in enumerate(self.layers):
            self.layers[index] = replace(
                layer, qkv=quantised(layer.qkv), o=quantised(layer.o), gate_up=quantised(layer.gate_up),
                down=quantised(layer.down),
            )  # fmt: skip
        self.head = quantised(self.head)


def round_weights(decoder: Decoder, model: Any) -> None:
    """Round the weights of `decoder` and `model`, which are the same, as `Decoder.quantise` will, in their own dtype.

    The model's head gets a weight of its own, since it may share the embedding's, which stays as it is.
    """
    for layer in decoder.layers:
        for linear in _products(layer):
            linear.weight.copy_(dequantised(quantised(linear), linear.weight.dtype))
    weight = dequantised(quantised(decoder.head), decoder.embedding.dtype)
    model.get_output_embeddings().weight = nn.Parameter(weight, requires_grad=False)


def _products(layer: Layer) -> tuple[Linear, ...]:
    return layer.qkv, layer.o, layer.gate_up, layer.down


# ---------------------------------------------------------------- weights


@torch.inference_mode()
def take_weights(model: Any, device: torch.device, positions: int) -> Decoder:
    """A decoder with the weights of `model`, on `device`; gains are not folded yet.

    Each weight goes to the device once, into the fused tensor where there is one, and the model's own parameters become
    views of it: the model, moved to the device, computes with the same memory.
    """
    text = model.config.get_text_config()
    base = model.model
    cosine, sine = (part.to(device) for part in _rope_table(base.rotary_emb, positions, model.dtype))
    epsilon = text.rms_norm_eps
    layer_types, window = getattr(text, "layer_types", None), getattr(text, "sliding_window", None)
    layers = []
    for index, layer in enumerate(base.layers):
        attend, mlp = layer.self_attn, layer.mlp
        slides = window and (layer_types is None or layer_types[index] == "sliding_attention")
        norms = [getattr(attend, name, None) for name in ("q_norm", "k_norm")]
        q_gain, k_gain = (None if norm is None else norm.weight.to(device).float() for norm in norms)
        attention = Attention(
            heads=text.num_attention_heads, kv_heads=text.num_key_value_heads, scaling=attend.scaling,
            rope_cos=cosine, rope_sin=sine, window=window if slides else None,
            q_gain=q_gain, k_gain=k_gain, epsilon=epsilon,
        )  # fmt: skip
        if text.model_type == "phi3":
            qkv, gate_up = [attend.qkv_proj], [mlp.gate_up_proj]
        else:
            qkv, gate_up = [attend.q_proj, attend.k_proj, attend.v_proj], [mlp.gate_proj, mlp.up_proj]
        layers.append(
            Layer(
                qkv=replace(_fused(qkv, device), epsilon=epsilon),
                attention=attention,
                o=replace(_fused([attend.o_proj], device), residual=True),
                gate_up=replace(_fused(gate_up, device), epsilon=epsilon, gated=True),
                down=replace(_fused([mlp.down_proj], device), residual=True),
            )
        )
    model.to(device)
    head = model.get_output_embeddings()  # may share its weight with the embedding, so that nothing is folded in
    last = Linear(head.weight.data, None if head.bias is None else head.bias.data, epsilon, base.norm.weight.float())
    return Decoder(base.embed_tokens.weight.data, layers, last, head_size(text))


def norm_gains(model: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For `Decoder.fold_norms`."""
    return [(x.input_layernorm.weight.data, x.post_attention_layernorm.weight.data) for x in model.model.layers]


def _fused(projections: list[nn.Linear], device: torch.device) -> Linear:
    """One tensor on the device, with the projections' weights one below the other; they become views of it."""
    first = projections[0].weight
    rows = [projection.weight.shape[0] for projection in projections]
    weight = torch.empty(sum(rows), first.shape[1], dtype=first.dtype, device=device)
    bias = torch.empty(sum(rows), dtype=first.dtype, device=device) if projections[0].bias is not None else None
    start = 0
    for projection, count in zip(projections, rows, strict=True):
        weight[start : start + count].copy_(projection.weight)
        projection.weight.data = weight[start : start + count]
        if bias is not None:
            bias[start : start + count].copy_(projection.bias)
            projection.bias.data = bias[start : start + count]
        start += count
    return Linear(weight, bias)


def _rope_table(rotary: Any, positions: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine `[positions, head_dim]`, as transformers computes them for this model."""
    index = torch.arange(positions)[None]
    cosine, sine = rotary(torch.empty(1, dtype=dtype), index)
    return cosine[0].contiguous(), sine[0].contiguous()
