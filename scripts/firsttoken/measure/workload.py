"""Which prompt each request of a run uses, and in which order: a pure function of the plan's seed and the repeat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from firsttoken.plan import Prompt, Prompts, Record


class ScheduledRequest(Record, frozen=True, kw_only=True):
    """One request of a run. `request` counts by length and is the same in every repeat; `order` is when it ran."""

    request: int
    order: int
    prompt: Prompt


def order_seed(seed: int, repeat: int) -> int:
    """The seed of a run's order: the same for all approaches of a repeat, so that they meet the same sequence."""
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])


def prompts_by_length(prompts: Prompts, lengths: Sequence[int]) -> dict[int, list[Prompt]]:
    """The prompts of each length by index. Raises ValueError when a length has none, or one is not of its length."""
    found: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts.prompts, key=lambda prompt: prompt.index):
        if len(prompt.token_ids) != prompt.length:
            raise ValueError(
                f"prompts: {prompt.index} of length {prompt.length} has {len(prompt.token_ids)} tokens; make them anew"
            )
        found[prompt.length].append(prompt)
    missing = [length for length in lengths if not found[length]]
    if missing:
        raise ValueError(
            f"prompts: none of length {missing[0]}; found {[k for k in found if found[k]]}; make them anew"
        )
    return {length: found[length] for length in lengths}


def schedule(by_length: dict[int, list[Prompt]], requests_per_length: int, seed: int) -> list[ScheduledRequest]:
    """All requests of a run, shuffled over the lengths; request i of a length takes prompt i modulo their number."""
    prompts = [
        candidates[index % len(candidates)] for candidates in by_length.values() for index in range(requests_per_length)
    ]
    shuffled = np.random.default_rng(seed).permutation(len(prompts))
    return [
        ScheduledRequest(request=int(request), order=order, prompt=prompts[request])
        for order, request in enumerate(shuffled)
    ]
