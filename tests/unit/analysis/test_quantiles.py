"""Quantiles of all requests together: the value, its interval, and where there is none."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats.mstats import hdquantiles

from firsttoken.analysis import quantiles as q
from firsttoken.analysis.processes import ProcessTable, independent_ratio
from firsttoken.analysis.requests import Requests, process_statistics
from firsttoken.analysis.statistics import QUANTILES, Estimate

POSITIVE = st.floats(1e-3, 1e4)
P99 = list(QUANTILES).index("p99")


def table_of(**approaches: np.ndarray) -> ProcessTable:
    """Of TTFTs in ms, [processes, n] each, at one prompt length."""
    rows = [(name, repeat + 1, 10) for name, values in approaches.items() for repeat in range(len(values))]
    cells = pd.DataFrame(rows, columns=["approach", "repeat", "prompt_length"])
    parts = [process for values in approaches.values() for process in values]
    groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    empty = {name: np.empty(0) for name in ("itl_token_gap", "itl_request_mean")}
    nowhere = {name: np.empty(0, np.int64) for name in empty}
    return ProcessTable(
        process_statistics(Requests(cells, {"ttft": np.concatenate(parts)} | empty, {"ttft": groups} | nowhere))
    )


def test_the_p99_of_a_cell_is_that_of_all_its_requests() -> None:
    """One process of ten is twice as slow: the mean of per-process P99s hides it, a client of the machine sees it."""
    values = 10 * np.exp(0.05 * np.random.default_rng(3).standard_normal((10, 75)))
    values[4] *= 2
    table = table_of(a=values)
    for statistic, probability in QUANTILES.items():
        expected = np.quantile(values, probability, method="median_unbiased")
        assert table.estimate("a", "ttft", statistic, [10]).value == pytest.approx(expected), statistic


@pytest.mark.parametrize(("probability", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_a_quantile_needs_as_many_requests_as_a_finite_order_statistic_interval(probability: float, n: int) -> None:
    assert q.smallest_pooled_n(probability) == n
    for size, finite in ((n, True), (n - 1, False)):
        interval = stats.quantile_test(np.arange(float(size)), p=probability).confidence_interval(0.95)
        assert np.isfinite([interval.low, interval.high]).all() == finite
        found = q.pseudo_values(np.array_split(np.arange(1.0, size + 1), 2))
        assert np.isfinite(found[:, list(QUANTILES.values()).index(probability)]).all() == finite


def test_pooled_requests_count_and_not_those_of_a_process() -> None:
    values = np.random.default_rng(1).lognormal(size=(10, 37))
    assert not np.isnan(q.pseudo_values(list(values))[:, P99]).any(), "370 together, though a process has 37"
    assert np.isnan(q.pseudo_values(list(values[:, :36]))[:, P99]).all()


@given(st.lists(POSITIVE, min_size=368, max_size=400))
@settings(max_examples=50, deadline=None)
def test_quantiles_are_ordered_and_inside_the_sample(values: list[float]) -> None:
    found = np.exp(np.log(q.pseudo_values(np.array_split(np.array(values), 5))).mean(axis=0))
    ordered = [min(values), *found, max(values)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(ordered))


@pytest.mark.parametrize("n", [40, 375, 5000])
@pytest.mark.parametrize("probability", QUANTILES.values())
def test_the_harrell_davis_quantile_is_scipys(n: int, probability: float) -> None:
    values = np.sort(np.random.default_rng(n).standard_normal(n))
    assert q._harrell_davis(values, probability) == pytest.approx(
        float(hdquantiles(values, [probability])[0]), abs=1e-9
    )


def test_tokens_that_arrive_together_leave_the_tail_its_interval() -> None:
    """Half of the gaps are zero, which has no logarithm; the P99 of the others does."""
    values = np.random.default_rng(8).lognormal(size=(5, 200)) * (np.arange(200) % 2)
    assert np.isfinite(q.pseudo_values(list(values))[:, P99]).all()


def test_an_approach_over_itself_is_exactly_one() -> None:
    values = np.random.default_rng(2).lognormal(0, 0.3, (5, 100))
    assert table_of(a=values).ratio("a", "a", "ttft", "p99", [10]) == (1.0, 1.0, 1.0, 5, "")


def test_margins_grow_with_the_spread_of_processes_and_are_none_for_a_median() -> None:
    near, far = 0.01 * np.arange(5.0), 0.2 * np.arange(5.0)
    assert q.between_margins(0.5, near, 0.5) == (0.0, 0.0)
    assert q.between_margins(0.5, near[:4], 0.99) == (0.0, 0.0), "too few processes for an interval"
    (low, high), (lower, higher) = (q.between_margins(logs.mean() + 0.6, logs, 0.99) for logs in (near, far))
    assert 0 < low < lower and 0 < high < higher and higher > lower, "a variance from five is known worse upwards"
    assert q.widened(Estimate(2.0, 2.0, 2.0, 5), 0.1, 0.1) == (2.0, 2.0, 2.0, 5, "")


def coverage_of_p99(
    process_sd: float, correlation: float, processes: int, studies: int = 150
) -> tuple[float, float, float]:
    """Share of studies whose interval holds the P99 of the population; of its ratio to a benign approach, both paired
    by repeat and of two studies. Requests are log-normal with sd 0.25; a process has 75."""
    rng = np.random.default_rng(20260403)
    noise = rng.standard_normal((75, studies, 2, processes))
    for step in range(1, 75):
        noise[step, :, 0] = correlation * noise[step - 1, :, 0] + np.sqrt(1 - correlation**2) * noise[step, :, 0]
    shift = rng.normal(0, [[process_sd], [0.02]], (studies, 2, processes))
    values = np.exp(0.25 * np.moveaxis(noise, 0, -1) + shift[..., None])
    truth, benign = (np.exp(stats.norm.ppf(0.99) * np.hypot(0.25, sd)) for sd in (process_sd, 0.02))
    held = np.zeros(3)
    for first, second in values:
        table = table_of(a=first, b=second)
        found = table.estimate("a", "ttft", "p99", [10])
        paired = table.ratio("a", "b", "ttft", "p99", [10])
        apart = independent_ratio(table_of(a=first), table_of(a=second), "a", "ttft", "p99", [10])
        truths = (truth, truth / benign, truth / benign)
        held += [each.low <= true <= each.high for each, true in zip((found, paired, apart), truths, strict=True)]
    share = held / studies
    return float(share[0]), float(share[1]), float(share[2])


@pytest.mark.slow
@pytest.mark.parametrize(("process_sd", "correlation"), [(0.15, 0.0), (0.02, 0.9)])
def test_intervals_of_p99_hold_the_population(process_sd: float, correlation: float) -> None:
    """Apart from the simulation that `make intervals` runs; docs/intervals.md has more processes and regimes."""
    found = coverage_of_p99(process_sd, correlation, processes=5)
    assert min(found) >= 0.87, found  # 90 % with a standard error of 2.4


def test_the_simulation_sees_an_interval_that_ignores_processes() -> None:
    """The check can fail: order statistics, as if all requests were independent, do not hold the population."""
    rng, held = np.random.default_rng(6), 0
    for _ in range(200):
        values = np.exp(0.25 * rng.standard_normal((5, 75)) + rng.normal(0, 0.15, (5, 1))).ravel()
        interval = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
        held += interval.low <= 1.0 <= interval.high
    assert held / 200 < 0.5
