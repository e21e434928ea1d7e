"""Statistics: what scipy and numpy are asked for, and simulations with a known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from firsttoken.analysis import statistics as s

POSITIVE = st.floats(1e-3, 1e4)


def test_processes_of_unequal_number_are_not_paired() -> None:
    with pytest.raises(ValueError, match="pair them by repeat"):
        s.paired_ratio(np.zeros(8), np.zeros(7))


def test_equal_processes_have_the_interval_of_a_point() -> None:
    same = np.full(5, np.log(2.0))
    for found in (s.t_interval(same), s.welch_ratio(same + same, same), s.paired_ratio(same + same, same)):
        assert found == pytest.approx((2.0, 2.0, 2.0, 5, ""))


def test_too_few_processes_have_a_value_and_no_interval() -> None:
    for found in (
        s.t_interval(np.zeros(4)),
        s.welch_ratio(np.zeros(9), np.zeros(4)),
        s.difference_interval(np.ones(4)),
    ):
        assert found.note == s.TOO_FEW_PROCESSES
        assert not np.isnan(found.value) and np.isnan(found.low) and np.isnan(found.high)
    assert s.t_interval(np.zeros(5)).note == ""


def test_a_zero_has_no_logarithm_and_says_so() -> None:
    zero = s.mean_over_lengths(np.array([[0.0]] * 6))
    assert s.t_interval(zero).note == s.NOT_POSITIVE


def test_mean_over_lengths_of_one_length_is_the_logarithm() -> None:
    values = np.array([[1.0], [2.0], [4.0]])
    assert s.mean_over_lengths(values) == pytest.approx(np.log(values[:, 0]))


@given(st.lists(st.lists(POSITIVE, min_size=3, max_size=3), min_size=2, max_size=8))
def test_mean_over_lengths_is_centred_on_the_mean_of_the_length_values(rows: list[list[float]]) -> None:
    values = np.array(rows)
    assert np.exp(s.mean_over_lengths(values).mean()) == pytest.approx(stats.gmean(values, axis=0).mean())


@given(st.lists(POSITIVE, min_size=5, max_size=20), POSITIVE)
def test_a_change_of_unit_changes_nothing_else(values: list[float], factor: float) -> None:
    one, other = s.t_interval(np.log(values)), s.t_interval(np.log(np.array(values) * factor))
    assert (other.value, other.low, other.high) == pytest.approx([factor * x for x in (one.value, one.low, one.high)])
    assert one.low <= one.value * (1 + 1e-9) and one.value <= one.high * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("between_sd", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("n_processes", [5, 10])
def test_intervals_of_the_summary_and_its_speedup_cover(n_processes: int, between_sd: float) -> None:
    """Means over prompt lengths of two approaches that share what happens to a repeat, and their ratio."""
    rng, repeats = np.random.default_rng(20260402), 2000
    typical_ms = np.array([[5.0, 20.0, 60.0], [9.0, 30.0, 45.0]])  # [approaches, lengths]
    shared = rng.normal(0, between_sd, (repeats, 1, n_processes, 1))  # the machine at that repeat
    own = rng.normal(0, between_sd, (repeats, 2, n_processes, 1))
    cell = rng.normal(0, 0.02, (repeats, 2, n_processes, 3))
    values = np.exp(np.log(typical_ms)[:, None] + shared + own + cell)
    truth = (typical_ms[0].mean(), typical_ms[1].mean() / typical_ms[0].mean())
    held = np.zeros(2)
    for study in values:
        a, b = (s.mean_over_lengths(approach) for approach in study)
        intervals = (s.t_interval(a), s.paired_ratio(b, a))
        held += [found.low <= true <= found.high for found, true in zip(intervals, truth, strict=True)]
    assert (held / repeats >= 0.93).all(), held / repeats
