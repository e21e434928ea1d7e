"""Teacher-forced log-probabilities from the same prefill and decode steps that generate tokens.

vLLM takes no continuation to decode along. So it decodes greedily, which gives the wanted rows for as long as it
chooses the continuation's tokens; where it chooses another, a new request starts with the continuation so far as its
prompt. Log-probabilities serve as logits: they differ by a constant a row.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np


class Decode(Protocol):
    def __call__(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Generator[tuple[int, Any]]:
        """Greedy tokens, each with a `FlatLogprobs` of one position: `token_ids` and `logprobs` of the vocabulary.
        Closing it ends the request."""


def teacher_forced(
    decode: Decode, prompt_ids: Sequence[int], continuation_ids: Sequence[int], vocab_size: int
) -> tuple[np.ndarray, list[int]]:
    """Log-probabilities float32 `[len(continuation_ids), vocab]`, and the rows that a prefill gave; decode steps gave
    the others."""
    wanted = len(continuation_ids)
    rows = np.empty((wanted, vocab_size), dtype=np.float32)
    prefilled, done = [], 0
    while done < wanted:
        prefilled.append(done)
        before = done
        with closing(decode([*prompt_ids, *continuation_ids[:done]], wanted - done)) as steps:
            for token, position in steps:
                rows[done] = full_row(position, vocab_size)
                done += 1
                if token != continuation_ids[done - 1]:
                    break
        if done == before:
            raise RuntimeError("vLLM gave no token where log-probabilities were asked for")
    return rows, prefilled


def full_row(position: Any, vocab_size: int) -> np.ndarray:
    """One position by token id, `[vocab]`. Raises RuntimeError where a token of the vocabulary is missing."""
    given = np.asarray(position.token_ids)
    if missing := vocab_size - len(np.unique(given)):
        raise RuntimeError(f"vLLM gave no log-probability for {missing} of {vocab_size} tokens")
    row = np.empty(vocab_size, dtype=np.float32)
    row[given] = position.logprobs
    return row
