"""The order of a run: every request once, prompts in turn, the same for a seed and another for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firsttoken.measure.workload import order_seed, prompts_by_length, schedule
from firsttoken.plan import Prompt, Prompts


def make_prompts(counts: dict[int, int]) -> Prompts:
    return Prompts(
        seed=1,
        corpus_sha256="",
        tokenizer_sha256="",
        prompts=tuple(
            Prompt(index=index, length=length, offset=0, token_ids=(index,) * length)
            for length, count in counts.items()
            for index in reversed(range(count))
        ),
    )


@given(
    st.dictionaries(st.integers(1, 20), st.integers(1, 5), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(0, 1000),
)
def test_each_length_has_its_requests_and_takes_its_prompts_in_turn(
    counts: dict[int, int], per_length: int, seed: int
) -> None:
    lengths = list(counts)
    items = schedule(prompts_by_length(make_prompts(counts), lengths), per_length, seed)
    assert [item.order for item in items] == list(range(per_length * len(lengths)))
    by_request = sorted(items, key=lambda item: item.request)
    expected = [(length, index % counts[length]) for length in lengths for index in range(per_length)]
    assert [(item.prompt.length, item.prompt.index) for item in by_request] == expected


def test_the_order_follows_seed_and_repeat() -> None:
    prompts = prompts_by_length(make_prompts({10: 4, 50: 4}), [10, 50])
    seeds = {(seed, repeat): order_seed(seed, repeat) for seed in (1, 2) for repeat in (1, 2, 3)}
    assert len(set(seeds.values())) == len(seeds)
    orders = {key: [item.request for item in schedule(prompts, 30, seed)] for key, seed in seeds.items()}
    assert orders[1, 1] == [item.request for item in schedule(prompts, 30, order_seed(1, 1))]
    assert len({tuple(order) for order in orders.values()}) == len(orders)


def test_missing_and_broken_prompts_are_named() -> None:
    with pytest.raises(ValueError, match=r"none of length 50; found \[10\]"):
        prompts_by_length(make_prompts({10: 2}), [10, 50])
    broken = Prompts(
        seed=1,
        corpus_sha256="",
        tokenizer_sha256="",
        prompts=(Prompt(index=3, length=4, offset=0, token_ids=(1, 2)),),
    )
    with pytest.raises(ValueError, match="3 of length 4 has 2 tokens"):
        prompts_by_length(broken, [4])
