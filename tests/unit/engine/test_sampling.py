"""The filters against transformers' own, in the order in which `generate()` applies them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firsttoken.plan import Sampling

torch = pytest.importorskip("torch")

from fakes.sampled import seen_tokens, transformers_probabilities  # noqa: E402
from firsttoken.engine import rng  # noqa: E402
from firsttoken.engine.sampling import choose_token, mark_prompt, token_probabilities  # noqa: E402
from firsttoken.engine.state import StepState  # noqa: E402

SAMPLINGS = st.builds(
    Sampling,
    method=st.just("sample"),
    repetition_penalty=st.sampled_from([0.6, 1.0, 1.1, 2.5]),
    temperature=st.floats(0.3, 2.0),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.05, 1.0),
)


def logits_of(seed: int, vocab: int) -> Any:
    """Positive and negative ones `[1, vocab]`, no two alike."""
    return torch.randn(1, vocab, generator=torch.Generator().manual_seed(seed)) * 3


@settings(max_examples=100, deadline=None)
@given(SAMPLINGS, st.integers(0, 10**6), st.integers(2, 40), st.data())
def test_probabilities_are_those_of_transformers(
    sampling: Sampling, seed: int, vocab: int, data: st.DataObject
) -> None:
    """Seen to fail with the penalty left out, with negative logits divided, and with a top-p that drops the token which
    crosses the share."""
    ids = data.draw(st.lists(st.integers(0, vocab - 1), min_size=1, max_size=12))
    logits = logits_of(seed, vocab)
    expected = transformers_probabilities(logits, ids, sampling)
    unfiltered = transformers_probabilities(logits, ids, msgspec.structs.replace(sampling, top_p=1.0))
    reached = unfiltered.sort(descending=True).values.cumsum(-1)
    assume(float((reached - sampling.top_p).abs().min()) > 1e-5 or sampling.top_p == 1.0)  # no tie of rounding
    torch.testing.assert_close(token_probabilities(logits, sampling, seen_tokens(ids, vocab)), expected)


def test_half_precision_logits_are_filtered_in_float32() -> None:
    sampling = Sampling(method="sample", repetition_penalty=1.1, temperature=0.7, top_k=50, top_p=0.9)
    logits = logits_of(3, 500).half()
    expected = transformers_probabilities(logits.float(), [1, 2, 3], sampling)
    torch.testing.assert_close(token_probabilities(logits, sampling, seen_tokens([1, 2, 3], 500)), expected)


def test_what_was_seen_is_the_prompt_and_the_drawn_tokens_and_nothing_of_an_earlier_request() -> None:
    """Seen to fail with a mask that `mark_prompt` does not clear, with padding that counts as seen, and with drawn
    tokens that are not added."""
    vocab, sampling = 40, Sampling(method="sample", repetition_penalty=5.0)
    state = StepState(16, vocab, torch.float32, torch.device("cpu"), seed=1)
    noise = torch.ones(1, vocab)
    for prompt, padded in (([5, 6, 7, 8, 9], 5), ([11, 12], 8), ([3], 1)):
        state.stage(prompt, padded)
        mark_prompt(state.seen, state.request, state.index, sampling)
        state.logits.copy_(logits_of(len(prompt), vocab))
        drawn = [int(choose_token(state.logits, sampling, noise, state.seen)) for _ in range(4)]
        assert len(set(drawn)) > 1, "a drawn token loses weight"
        assert torch.nonzero(state.seen[0]).flatten().tolist() == sorted({*prompt, *drawn})


def test_without_a_penalty_nothing_is_marked() -> None:
    state = StepState(4, 8, torch.float32, torch.device("cpu"), seed=1)
    state.stage([1, 2], 2)
    for sampling in (Sampling(), Sampling(method="sample", temperature=0.5)):
        mark_prompt(state.seen, state.request, state.index, sampling)
        choose_token(state.logits, sampling, torch.ones(1, 8), state.seen)
        assert not state.seen.any()


def test_the_least_noise_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: of 32,000 tokens one in 500 steps had no noise, and was drawn though top-k had removed it."""
    monkeypatch.setattr(rng, "hash32", lambda value: torch.full_like(value, 0xFFFFFFFF))
    index = torch.arange(3)
    least = rng.exponential_noise(rng.new_state(1, torch.device("cpu")), index)
    assert (least > 0).all()
    monkeypatch.setattr(rng, "hash32", torch.zeros_like)
    assert torch.isfinite(rng.exponential_noise(rng.new_state(1, torch.device("cpu")), index)).all()
