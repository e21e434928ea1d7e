"""Ready-made additive attention masks, so that no mask code of transformers runs inside a step.

A prompt needs no mask at all where sdpa's causal flag does the work: padding stands to the right of the prompt, where
causality already hides it. Decode steps read one row `[1, 1, 1, capacity]` at a fixed address, cut to the KV bucket.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from firsttoken.plan import Unsupported

# The same kernel as `sdpa`, under a name for which transformers has no mask function: with that, "no mask" stays no
# mask and a ready mask is taken as it is (transformers.masking_utils._preprocess_mask_arguments).
SDPA_READY_MASKS = "firsttoken_sdpa"
FULL, SLIDING = "full_attention", "sliding_attention"


def use_ready_masks(model: PreTrainedModel) -> None:
    """Switch the model from `sdpa` to the same attention without transformers' mask building. Eager attention stays."""
    # Else some models look at the ends of every prompt, on the host. Some configs do not let it be set to None.
    vars(model.config)["pad_token_id"] = None
    if model.config.get_text_config()._attn_implementation == "sdpa":
        AttentionInterface.register(SDPA_READY_MASKS, sdpa_attention_forward)
        model.set_attn_implementation(SDPA_READY_MASKS)


class MaskPlan:
    """Which masks a model's layers need: one for all layers, or one for each layer type."""

    def __init__(self, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, capacity: int) -> None:
        text = config.get_text_config()
        layer_types = getattr(text, "layer_types", None)
        window = getattr(text, "sliding_window", None)
        self.by_type = layer_types is not None  # transformers' own rule for who takes a dict of masks
        self.types = tuple(sorted(set(layer_types))) if layer_types else ((SLIDING,) if window else (FULL,))
        unknown = [name for name in self.types if name not in (FULL, SLIDING)]
        if unknown or getattr(text, "attention_chunk_size", None):
            raise Unsupported(f"attention of type {', '.join(unknown) or 'chunked'} has no ready-made mask here")
        if SLIDING in self.types and not window:
            raise Unsupported("config.json: layers of type sliding_attention, but no sliding_window")
        # A window that the context never outgrows hides nothing.
        self.windows = [min(int(window), capacity) if window and name == SLIDING else capacity for name in self.types]
        self.causal_flag = text._attn_implementation == SDPA_READY_MASKS
        self.dtype, self.device, self.capacity = dtype, device, capacity
        self.hidden = torch.finfo(dtype).min

    def _pack(self, masks: list[torch.Tensor | None]) -> Any:
        return dict(zip(self.types, masks, strict=True)) if self.by_type else masks[0]

    def prefill(self, length: int) -> Any:
        """What `attention_mask` is for a prompt (padded or not) of `length` tokens: `[1, 1, length, length]` or None
        each."""
        return self._pack([self._prefill_mask(length, window) for window in self.windows])

    def _prefill_mask(self, length: int, window: int) -> torch.Tensor | None:
        if self.causal_flag and window >= length:
            return None
        query = torch.arange(length, device=self.device)[:, None]
        key = torch.arange(length, device=self.device)[None, :]
        seen = (key <= query) & (key > query - window)
        mask = torch.zeros(length, length, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~seen, self.hidden)[None, None]

    def decode_rows(self) -> list[torch.Tensor]:
        """New decode rows, `[1, 1, 1, capacity]` for each type, that hide everything."""
        shape = (1, 1, 1, self.capacity)
        return [torch.full(shape, self.hidden, dtype=self.dtype, device=self.device) for _ in self.types]

    def decode(self, rows: list[torch.Tensor], bucket: int) -> Any:
        """What `attention_mask` is for a decode step that reads `bucket` positions."""
        return self._pack([row[..., :bucket] for row in rows])
