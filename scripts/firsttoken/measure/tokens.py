"""What an approach answered: the tokens of every prompt, and teacher-forced logits for the equality check."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from firsttoken.approaches.base import Approach
from firsttoken.plan import Prompt
from firsttoken.results import PromptTokens, TokenSequence, TokensRecord


@dataclass
class TokenLog:
    """The distinct answers to each prompt, and how many requests gave each."""

    logits_reason: str = "the run ended before the logits were asked for"
    logits_files: dict[tuple[int, int], str] = field(default_factory=dict)
    _answers: defaultdict[tuple[int, int], Counter[tuple[int, ...]]] = field(
        default_factory=lambda: defaultdict(Counter)
    )

    def add(self, prompt: Prompt, tokens: NDArray[Any]) -> None:
        """Count one more answer, `[new_tokens]`."""
        self._answers[prompt.length, prompt.index][tuple(tokens.tolist())] += 1

    def record(self, approach: str, repeat: int) -> TokensRecord:
        """All prompts that were answered, by length and index."""
        prompts = tuple(
            PromptTokens(
                prompt_length=length,
                prompt_index=index,
                answers=tuple(TokenSequence(tokens=tokens, requests=requests) for tokens, requests in counts.items()),
                logits_file=self.logits_files.get((length, index)),
            )
            for (length, index), counts in sorted(self._answers.items())
        )
        return TokensRecord(approach=approach, repeat=repeat, logits_reason=self.logits_reason, prompts=prompts)


def save_logits(approach: Approach, prompts: Sequence[Prompt], reference: str, folder: Path, log: TokenLog) -> None:
    """Ask for the logits that predict the reference's tokens.

    `reference` is a safetensors file with `tokens/{length}/{index}`, `[new_tokens]`. Raises ValueError when it lacks a
    prompt.
    """
    if not reference or not prompts:
        log.logits_reason = "the study asked for none"
        return
    from safetensors import safe_open  # here, since a run without logits does not need it

    with safe_open(reference, framework="numpy") as stored:
        known = set(stored.keys())
        for prompt in prompts:
            key = f"tokens/{prompt.length}/{prompt.index}"
            if key not in known:
                raise ValueError(f"{reference}: no {key}; make the reference again")
            name = f"{prompt.length}-{prompt.index}.safetensors"
            continuation = stored.get_tensor(key).reshape(-1).tolist()
            if not approach.save_logits(prompt.token_ids, continuation, folder / name):
                log.logits_reason = "the approach does not offer them"
                return
            log.logits_files[prompt.length, prompt.index] = name
    log.logits_reason = ""
