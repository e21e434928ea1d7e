"""The choice of the next token from the logits.

Repetition penalty, temperature, top-k, top-p, one draw: what `generate()` does, in its order. Every form of the dynamic
operations but `hf.published_ops` runs these functions: operator by operator, or compiled.
"""

from __future__ import annotations

import torch

from firsttoken.engine import rng
from firsttoken.plan import Sampling


def mark_prompt(seen: torch.Tensor, request: torch.Tensor, index: torch.Tensor, sampling: Sampling) -> None:
    """Make `seen`, bool `[1, vocab]`, hold the tokens of an uploaded prompt and no others.

    `request` and `index` are those of `StepState`. Ids behind the last prompt token are padding or another prompt's, so
    the first token stands in for them.
    """
    if sampling.repetition_penalty != 1.0:
        seen.zero_()
        seen.index_fill_(1, torch.where(index <= request[:1], request[1:], request[1:2]), 1)


def token_probabilities(logits: torch.Tensor, sampling: Sampling, seen: torch.Tensor) -> torch.Tensor:
    """Probabilities `[1, vocab]`, float32, of the next token; `seen`, bool `[1, vocab]`, are the request's tokens so
    far."""
    scores = logits.float()
    if sampling.repetition_penalty != 1.0:
        penalty = sampling.repetition_penalty
        scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
    scores = scores / sampling.temperature
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


def choose_token(
    logits: torch.Tensor, sampling: Sampling, noise: torch.Tensor | None, seen: torch.Tensor
) -> torch.Tensor:
    """The next token `[1, 1]`: the best one, or argmax(p / Exponential(1)), which draws from p without a host sync.

    A token that was drawn is added to `seen`.
    """
    if sampling.method == "greedy":
        return torch.argmax(logits, dim=-1, keepdim=True)
    assert noise is not None
    token = torch.argmax(token_probabilities(logits, sampling, seen) / noise, dim=-1, keepdim=True)
    if sampling.repetition_penalty != 1.0:
        seen.index_fill_(1, token[0], 1)
    return token


def choose_token_on_device(
    logits: torch.Tensor, sampling: Sampling, noise_state: torch.Tensor, vocab_index: torch.Tensor, seen: torch.Tensor
) -> torch.Tensor:
    """`choose_token` with noise from `noise_state`, which moves on by one step: nothing of it needs the host."""
    if sampling.method == "greedy":
        return choose_token(logits, sampling, None, seen)
    noise = rng.exponential_noise(noise_state, vocab_index)
    noise_state[1:].add_(1)
    return choose_token(logits, sampling, noise, seen)
