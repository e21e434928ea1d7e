"""What sampled tokens are held to: transformers' own logits processors, and a chi-squared test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from scipy import stats

from firsttoken.plan import Sampling

# As the published baseline samples (case1_baseline.py of arXiv 2604.23467), with a penalty that shows in a few draws.
FULL = Sampling(method="sample", repetition_penalty=1.8, temperature=0.7, top_k=8, top_p=0.9)


def transformers_probabilities(logits: Any, ids: Sequence[int], sampling: Sampling) -> Any:
    """Probabilities `[1, vocab]` behind the token ids `ids`; the order is `GenerationMixin._get_logits_processor`'s."""
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)])
    processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    input_ids: Any = torch.tensor([list(ids)], device=logits.device)
    return torch.softmax(processors(input_ids, logits), -1)


def seen_tokens(ids: Iterable[int], vocab: int) -> Any:
    """The mask `[1, vocab]` of these tokens."""
    seen = torch.zeros(1, vocab, dtype=torch.bool)
    seen[0, list(ids)] = True
    return seen


def assert_drawn_from(tokens: Sequence[int], probabilities: Any) -> None:
    """Raise AssertionError where `tokens` are not draws from `probabilities` `[1, vocab]`: a token without weight, or a
    p value under 1e-4 (seeds are fixed, so that a test passes always or never)."""
    wanted = probabilities[0].double().cpu()
    counts = torch.bincount(torch.tensor(tokens), minlength=len(wanted)).double()
    kept = wanted > 0
    assert counts[~kept].sum() == 0, "a token that the filters drop was drawn"
    found, expected = counts[kept].numpy(), (wanted[kept] / wanted.sum() * len(tokens)).numpy()
    assert len(found) == 1 or stats.chisquare(found, expected).pvalue > 1e-4, (found, expected)
