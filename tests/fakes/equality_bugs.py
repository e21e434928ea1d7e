"""Wrong functions for the equality gate to notice, each in a size that can be turned down to find the smallest noticed.

A bug is planted in an engine of a Llama-like model whose steps run eagerly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch

from firsttoken.engine import loop
from firsttoken.engine.logits import save_logits_file
from firsttoken.hf.kv_cache import DecodeView

SWITCH_LENGTH = 32  # between the prompt lengths of `equality_bench`
Planting = Callable[[Any, float], Any]  # (engine, size) -> context manager


@dataclass(frozen=True)
class EqualityBug:
    """`plant(engine, size)` is a context manager; `size` is what the tests plant, 0 would be no bug."""

    name: str
    plant: Planting
    size: float
    meaning: str  # of the size

    def sized(self, size: float) -> EqualityBug:
        return replace(self, size=size)


@contextmanager
def _logits_changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    with patch.object(loop, "save_logits_file", lambda logits, path: save_logits_file(change(logits), path)):
        yield


def scaled(engine: Any, size: float) -> Any:
    return _logits_changed(lambda logits: logits * (1 + size))


def noise(engine: Any, size: float) -> Any:
    def add(logits: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
        return logits + size * logits.std(-1, keepdim=True) * drawn

    return _logits_changed(add)


@contextmanager
def _decode_cache(values: Callable[..., torch.Tensor], heads: float = 0.0) -> Iterator[None]:
    """`values(view, layer, new)` is what a decode step writes; `heads` blends each key-value head with the next."""

    def update(self: DecodeView, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any) -> Any:
        self.storage.keys[layer].index_copy_(2, self.position, key)
        self.storage.values[layer].index_copy_(2, self.position, values(self, layer, value))
        read = self.read_keys[layer], self.read_values[layer]
        return tuple((1 - heads) * part + heads * part.roll(1, 1) for part in read) if heads else read

    with patch.object(DecodeView, "update", update):
        yield


def decode_v_shrunk(engine: Any, size: float) -> Any:
    return _decode_cache(lambda view, layer, new: new * (1 - size))


def stale_v(engine: Any, size: float) -> Any:
    def mixed(view: DecodeView, layer: int, new: torch.Tensor) -> torch.Tensor:
        return (1 - size) * new + size * view.storage.values[layer].index_select(2, view.position)

    return _decode_cache(mixed)


def wrong_kv_head(engine: Any, size: float) -> Any:
    return _decode_cache(lambda view, layer, new: new, heads=size)


@contextmanager
def _hooks(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rotary_positions(engine: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def before(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if "position_ids" in keywords:
            return arguments, {**keywords, "position_ids": change(keywords["position_ids"])}
        return (arguments[0], change(arguments[1])), keywords

    rotary = engine.steps.model.model.rotary_emb
    return _hooks(rotary.register_forward_pre_hook(before, with_kwargs=True))


def rope_off(engine: Any, size: float) -> Any:
    """Decode steps alone: their queries and keys are rotated for a later position than the prompt's."""
    return _rotary_positions(engine, lambda ids: ids + size if ids.shape[-1] == 1 else ids)


def rope_switching(engine: Any, size: float) -> Any:
    """Positions are divided as linear RoPE scaling does, for prompts and decode steps beyond SWITCH_LENGTH alone."""

    def change(ids: torch.Tensor) -> torch.Tensor:
        divided = ids / (1 + size)
        if ids.shape[-1] > 1:
            return divided if ids.shape[-1] > SWITCH_LENGTH else ids
        return torch.where(ids >= SWITCH_LENGTH, divided, ids.to(divided.dtype))

    return _rotary_positions(engine, change)


def position_0_hidden(engine: Any, size: float) -> Any:
    """Decode steps see the first position with (1 - size) times the weight."""
    penalty = math.log1p(-size) if size < 1 else float("-inf")

    def before(module: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
        mask = keywords.get("attention_mask")
        if keywords["input_ids"].shape[-1] > 1 or mask is None:
            return None
        mask = mask.clone()
        mask[..., 0] += penalty
        return arguments, {**keywords, "attention_mask": mask}

    return _hooks(engine.steps.model.register_forward_pre_hook(before, with_kwargs=True))


def residual_dropped(engine: Any, size: float) -> Any:
    """The middle layer gives `size` of its input less than it should."""
    layers = engine.steps.model.model.layers
    layer = layers[len(layers) // 2]
    return _hooks(layer.register_forward_hook(lambda module, arguments, output: output - size * arguments[0]))


NOISE_IN_BOUNDS = 3.0
BUGS = (
    EqualityBug("log-probabilities scaled by 1.1", scaled, 0.1, "scale - 1"),
    EqualityBug("log-probabilities scaled by 1.5", scaled, 0.5, "scale - 1"),
    EqualityBug("noise of three times the bound", noise, math.nan, "noise as a share of the logits' spread"),
    EqualityBug("decode: V x 0.9", decode_v_shrunk, 0.1, "share of V that is missing"),
    EqualityBug("decode: RoPE off by one", rope_off, 1.0, "positions"),
    EqualityBug("decode: stale V", stale_v, 1.0, "share of V that is stale"),
    EqualityBug("decode: the mask hides position 0", position_0_hidden, 1.0, "share of its weight that is missing"),
    EqualityBug("decode: the next KV head", wrong_kv_head, 1.0, "share of K and V from the wrong head"),
    EqualityBug("the residual of one layer dropped", residual_dropped, 1.0, "share that is missing"),
    EqualityBug("RoPE switches at 32 tokens", rope_switching, 1.0, "scaling factor - 1"),
)
