"""The choice of the next token from the logits."""

from __future__ import annotations

import torch

from firsttoken.engine import rng
from firsttoken.plan import Sampling


def token_probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities `[1, vocab]`, float32, after temperature, top-k and top-p, in the order that `generate()` applies
    them."""
    scores = logits.float() / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        least = torch.topk(scores, sampling.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, order = torch.sort(scores, dim=-1, descending=True)
        probabilities = torch.softmax(ordered, dim=-1)
        before = torch.cumsum(probabilities, dim=-1) - probabilities  # 0 for the first, which is therefore always kept
        dropped = before >= sampling.top_p
        scores = scores.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), float("-inf"))
    return torch.softmax(scores, dim=-1)


def choose_token(logits: torch.Tensor, sampling: Sampling, noise: torch.Tensor | None) -> torch.Tensor:
    """The next token `[1, 1]`: the best one, or argmax(p / Exponential(1)), which draws from p without a host sync."""
    if sampling.method == "greedy":
        return torch.argmax(logits, dim=-1, keepdim=True)
    assert noise is not None
    return torch.argmax(token_probabilities(logits, sampling) / noise, dim=-1, keepdim=True)


def choose_token_on_device(
    logits: torch.Tensor, sampling: Sampling, noise_state: torch.Tensor, vocab_index: torch.Tensor
) -> torch.Tensor:
    """`choose_token` with noise from `noise_state`, which moves on by one step: nothing of it needs the host."""
    if sampling.method == "greedy":
        return choose_token(logits, sampling, None)
    noise = rng.exponential_noise(noise_state, vocab_index)
    noise_state[1:].add_(1)
    return choose_token(logits, sampling, noise)
