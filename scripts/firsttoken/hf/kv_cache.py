"""A KV cache at fixed addresses, and the two views of it that a model's forward writes through.

A captured graph replays onto the same addresses for ever, so the buffers are allocated once, at full length for every
layer (sliding-window layers too: the mask does the windowing). Which positions a step writes and reads is a property of
the view, not state of the cache: the capture thread can record a step while the engine thread runs another one.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from firsttoken.plan import Unsupported

# Attention kernels read masks in aligned pieces; another length would be padded, and copied, in every layer of every
# step.
ALIGNMENT = 64


class KVStorage:
    """Keys and values of every layer, each `[1, kv_heads, capacity, head_dim]`, zeroed once, never moved."""

    def __init__(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self.keys = keys
        self.values = values

    def scratch(self) -> KVStorage:
        """One layer's buffers in the place of every layer of the same shape: somewhere for a warm-up to write."""
        by_shape: dict[tuple[int, ...], torch.Tensor] = {}

        def stand_in(buffer: torch.Tensor, kind: int) -> torch.Tensor:
            return by_shape.setdefault((kind, *buffer.shape), torch.zeros_like(buffer))

        return KVStorage([stand_in(k, 0) for k in self.keys], [stand_in(v, 1) for v in self.values])

    def copy(self) -> KVStorage:
        """As many buffers again, empty."""
        return KVStorage(*([torch.zeros_like(buffer) for buffer in buffers] for buffers in (self.keys, self.values)))


class _View(Cache):
    """A `Cache` in transformers' eyes that does nothing but route `update` into fixed buffers."""

    def __init__(self, storage: KVStorage) -> None:
        self.storage = storage
        self.layers: list[Any] = []  # no layer objects: nothing of transformers' own bookkeeping runs
        self.layer_class_to_replicate = None
        self.offloading = False

    def _refuse(self, *args: object, **kwargs: object) -> Any:
        raise Unsupported(
            "the model asks its cache for more than keys and values (other state, or a length that only the host knows)"
        )

    update_conv_state = update_recurrent_state = update_indexer = _refuse
    get_conv_state = get_recurrent_state = get_seq_length = get_mask_sizes = get_query_offset = _refuse


class PrefillView(_View):
    """Writes positions 0 to L - 1 and attends to what it just wrote: a prompt always starts the context."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `[1, kv_heads, L, head_dim]` into the buffers; returns them as they came."""
        length = key_states.shape[2]
        self.storage.keys[layer_idx][:, :, :length].copy_(key_states)
        self.storage.values[layer_idx][:, :, :length].copy_(value_states)
        return key_states, value_states


class DecodeView(_View):
    """Writes one position, named by a device tensor, and attends to the first `bucket` positions."""

    def __init__(self, storage: KVStorage, position: torch.Tensor, bucket: int) -> None:
        super().__init__(storage)
        self.position = position  # [1] int64 on the device, read when the step runs, not when it is captured
        self.read_keys = [keys[:, :, :bucket] for keys in storage.keys]
        self.read_values = [values[:, :, :bucket] for values in storage.values]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One position's keys and values `[1, kv_heads, 1, head_dim]`; returns the bucket `[1, kv_heads, bucket,
        head_dim]`."""
        self.storage.keys[layer_idx].index_copy_(2, self.position, key_states)
        self.storage.values[layer_idx].index_copy_(2, self.position, value_states)
        return self.read_keys[layer_idx], self.read_values[layer_idx]


class _ShapeProbe(_View):
    """Notes the shape of each layer's keys and values."""

    def __init__(self) -> None:
        super().__init__(KVStorage([], []))
        self.shapes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.shapes[layer_idx] = (key_states, value_states)
        return key_states, value_states


def allocate_storage(model: PreTrainedModel, capacity: int, mask: Any) -> KVStorage:
    """Buffers for every layer, their shapes asked of the model itself by a forward of one token.

    `mask` is what a one-token prompt needs. Raises Unsupported when a layer keeps no keys and values, or keeps
    more.
    """
    probe = _ShapeProbe()
    zero = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
    with torch.inference_mode():
        model(input_ids=zero, position_ids=zero, attention_mask=mask, past_key_values=probe, use_cache=True)
    layers = model.config.get_text_config().num_hidden_layers
    if sorted(probe.shapes) != list(range(layers)):
        raise Unsupported(
            f"{type(model).__name__}: {len(probe.shapes)} of {layers} layers write keys and values to the cache; "
            "the static KV cache needs all of them"
        )

    def buffer(state: torch.Tensor) -> torch.Tensor:
        _, heads, _, head_dim = state.shape
        return state.new_zeros(1, heads, capacity, head_dim)

    # Outside inference_mode, so that these are ordinary tensors, which may be written in and out of it.
    ordered = [probe.shapes[i] for i in range(layers)]
    return KVStorage([buffer(k) for k, _ in ordered], [buffer(v) for _, v in ordered])


def aligned(positions: int) -> int:
    """`positions` rounded up to what kernels read at once."""
    return -(-positions // ALIGNMENT) * ALIGNMENT
