"""The errors of log-probabilities are their definitions, whatever constant the logits are off by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from firsttoken.analysis.logit_errors import logit_errors

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0, 3, (5, 40)).astype(np.float32)


def test_the_same_logits_have_no_error() -> None:
    errors = logit_errors(LOGITS, LOGITS)
    assert errors.rms_error.max() == errors.kl.max() == 0
    assert errors.slope == pytest.approx(1, abs=1e-12)


def test_each_error_is_its_definition() -> None:
    found = (LOGITS + RNG.normal(0, 0.1, LOGITS.shape)).astype(np.float32)
    errors = logit_errors(LOGITS, found)
    x, y = (log_softmax(logits.astype(np.float64), axis=-1) for logits in (LOGITS, found))
    p, q = (softmax(logits.astype(np.float64), axis=-1) for logits in (LOGITS, found))
    assert errors.spread == pytest.approx(x.std(axis=-1))
    assert errors.rms_error == pytest.approx(np.sqrt(((x - y) ** 2).mean(axis=-1)))
    assert errors.kl == pytest.approx((p * np.log(p / q)).sum(axis=-1))
    assert errors.slope == pytest.approx([np.polyfit(a, b, 1)[0] for a, b in zip(x, y, strict=True)])


@given(scale=st.floats(0.1, 10), shift=st.floats(-50, 50))
def test_the_slope_is_the_scale_and_a_shift_is_no_error(scale: float, shift: float) -> None:
    assert logit_errors(LOGITS, LOGITS.astype(np.float64) * scale + shift).slope == pytest.approx(scale, rel=1e-6)
    assert logit_errors(LOGITS, LOGITS.astype(np.float64) + shift).rms_error.max() < 1e-6


@given(scale=st.floats(0.05, 20), size=st.floats(1e-6, 1e-2))
def test_the_slope_is_never_further_from_1_than_the_rms_error(scale: float, size: float) -> None:
    """So that a bound on the error bounds the slope too; its own bound is tighter."""
    found = LOGITS * scale + np.random.default_rng(1).normal(0, size, LOGITS.shape)
    distances = logit_errors(LOGITS, found).distances
    assert (distances["slope"] <= distances["rms"] * (1 + 1e-9)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_not_finite_has_infinite_errors(bad: float) -> None:
    found = LOGITS.copy()
    found[2, 7] = bad
    errors = logit_errors(LOGITS, found)
    assert np.flatnonzero(np.isinf(errors.rms_error)).tolist() == np.flatnonzero(np.isinf(errors.kl)).tolist() == [2]
