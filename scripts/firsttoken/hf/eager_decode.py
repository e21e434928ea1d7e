"""Plain eager decoding with Hugging Face's own growing KV cache: what all other ways are held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def greedy_decode(model: Any, prompt_ids: Sequence[int], new_tokens: int) -> tuple[list[int], torch.Tensor]:
    """One prefill and `new_tokens - 1` one-token steps.

    Returns the greedy tokens (end-of-sequence ignored) and the logits that chose them: float32 `[new_tokens, vocab]` on
    the CPU.
    """
    return _decode(model, prompt_ids, new_tokens, None)


def teacher_forced_logits(model: Any, prompt_ids: Sequence[int], continuation_ids: Sequence[int]) -> torch.Tensor:
    """Float32 logits `[len(continuation_ids), vocab]` on the CPU; row i is what predicts `continuation_ids[i]`."""
    return _decode(model, prompt_ids, len(continuation_ids), continuation_ids)[1]


def uncached_logits(model: Any, prompt_ids: Sequence[int], continuation_ids: Sequence[int]) -> torch.Tensor:
    """The same logits by one forward pass over the whole text, without a KV cache: what the model was trained for."""
    import torch

    text = torch.tensor([[*prompt_ids, *continuation_ids[:-1]]], device=model.device)
    rows = len(continuation_ids)
    with torch.inference_mode():
        output = model(input_ids=text, use_cache=False, logits_to_keep=rows)
    logits: torch.Tensor = output.logits[0, -rows:].float().cpu()
    return logits


def _decode(
    model: Any, prompt_ids: Sequence[int], new_tokens: int, forced: Sequence[int] | None
) -> tuple[list[int], torch.Tensor]:
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    tokens: list[int] = []
    rows: list[torch.Tensor] = []
    step_input = torch.tensor([list(prompt_ids)], device=model.device)
    with torch.inference_mode():
        for index in range(new_tokens):
            output = model(input_ids=step_input, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits = output.logits[0, -1].float()
            rows.append(logits.cpu())
            tokens.append(int(logits.argmax()) if forced is None else int(forced[index]))
            step_input = torch.tensor([[tokens[-1]]], device=model.device)
    return tokens, torch.stack(rows)
