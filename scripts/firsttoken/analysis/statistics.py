"""The statistics of a study: few, vectorised, each with its source.

The process is the unit: a number with an interval here always comes from one statistic per process. Latencies are
positive and skewed, so that intervals are taken on the logarithm. The value shown is the geometric mean over processes
(what the interval is about); ratios of shown values are therefore exactly the ratios with the intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]

QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
STATISTICS = ("mean", *QUANTILES)
CONFIDENCE = 0.95
MIN_PROCESSES = 5  # below this a t interval says more about luck than about the machine
TOO_FEW_PROCESSES = "too few processes"
N_TOO_SMALL = "n too small"
ALL_TAINTED = "all requests tainted"
NOT_POSITIVE = "not positive"  # no logarithm: e.g. the median gap of tokens that arrive together


class Estimate(NamedTuple):
    """A value with its interval; `low` and `high` are NaN where `note` says why there is none."""

    value: float
    low: float
    high: float
    n: int
    note: str = ""


NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def smallest_n(probability: float) -> int:
    """Samples from which the median-unbiased quantile lies inside the sample: P99 67, P95 13, P90 7.

    Below, the estimator (Hyndman and Fan 1996, definition 8) has no sample beyond it: it would be the maximum.
    """
    above = np.ceil((1 + probability) / (3 * (1 - probability)) - 1e-9)  # n p + (p + 1) / 3 <= n
    below = np.ceil((2 - probability) / (3 * probability) - 1e-9)  # n p + (p + 1) / 3 >= 1
    return int(max(above, below, 1))


def smallest_pooled_n(probability: float, confidence: float = CONFIDENCE) -> int:
    """Pooled samples for a finite order-statistic interval (Conover 1999): P99 368, P95 72, P90 36, median 6."""
    return int(np.floor(np.log((1 - confidence) / 2) / np.log(max(probability, 1 - probability)))) + 1


def grouped_statistics(values: Floats, groups: NDArray[np.int64], n_groups: int) -> tuple[Floats, NDArray[np.int64]]:
    """Mean and quantiles of each group in one sort.

    values, groups: [n]; returns statistics [n_groups, len(STATISTICS)], NaN where the group has under `smallest_n`
    samples, and counts [n_groups]. Quantiles are median-unbiased (Hyndman and Fan 1996, definition 8), since a process
    holds few samples and the usual interpolation puts its P99 too low.
    """
    counts = np.bincount(groups, minlength=n_groups).astype(np.int64)
    result = np.full((n_groups, len(STATISTICS)), np.nan)
    filled = counts > 0
    result[filled, 0] = np.bincount(groups, weights=values, minlength=n_groups)[filled] / counts[filled]
    ordered = values[np.lexsort((values, groups))]
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    for column, probability in enumerate(QUANTILES.values(), start=1):
        enough = counts >= smallest_n(probability)
        result[enough, column] = _median_unbiased(ordered, starts[enough], counts[enough], probability)
    return result, counts


def _median_unbiased(
    ordered: Floats, starts: NDArray[np.int64], counts: NDArray[np.int64], probability: float
) -> Floats:
    """Hyndman and Fan's definition 8 of the sorted groups that begin at `starts`, [groups]."""
    position = np.clip(counts * probability + (probability + 1) / 3 - 1, 0, counts - 1)
    lower = np.floor(position).astype(np.int64)
    below, above = ordered[starts + lower], ordered[starts + np.minimum(lower + 1, counts - 1)]
    return np.asarray(below + (position - lower) * (above - below), dtype=np.float64)


def order_statistic_interval(ordered: Floats, probability: float, confidence: float = CONFIDENCE) -> Estimate:
    """A quantile of sorted samples with its distribution-free interval, NaN where a bound would lie outside them.

    Valid within the processes that ran. The ranks are those of `scipy.stats.quantile_test` (Conover 1999, 3.2), for
    which a finite interval of P99 needs n >= 368; the quantile is the median-unbiased one.
    """
    n = len(ordered)
    if n < smallest_n(probability):
        return NOTHING._replace(n=n, note=N_TOO_SMALL)
    tail = (1 - confidence) / 2
    ranks = stats.binom(n, probability)
    low, high = int(ranks.ppf(tail)) - 1, int(ranks.isf(tail))
    return Estimate(
        float(_median_unbiased(ordered, np.zeros(1, np.int64), np.array([n]), probability)[0]),
        float(ordered[low]) if low >= 0 else np.nan,
        float(ordered[high]) if high < n else np.nan,
        n,
    )


def t_interval(logs: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """exp of Student's t interval over logarithms, one a process (Student 1908; logs: Hoefler and Belli 2015)."""
    n = len(logs)
    if n == 0:
        return NOTHING
    if not np.all(np.isfinite(logs)):
        return Estimate(np.nan, np.nan, np.nan, n, NOT_POSITIVE)
    centre = float(np.mean(logs))
    if n < MIN_PROCESSES:
        return Estimate(float(np.exp(centre)), np.nan, np.nan, n, TOO_FEW_PROCESSES)
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2) * np.std(logs, ddof=1) / np.sqrt(n))
    return Estimate(float(np.exp(centre)), float(np.exp(centre - half)), float(np.exp(centre + half)), n)


def difference_interval(values: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Student's t interval of a mean on the scale of the values: for differences in ms, which may be negative."""
    n = len(values)
    if n == 0:
        return NOTHING
    centre = float(np.mean(values))
    if n < MIN_PROCESSES:
        return Estimate(centre, np.nan, np.nan, n, TOO_FEW_PROCESSES)
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(centre, centre - half, centre + half, n)


def mean_over_lengths(values: Floats) -> Floats:
    """One logarithm a process for the mean over prompt lengths, [processes, lengths] -> [processes].

    Their mean is exactly the log of the arithmetic mean over lengths of the per-length values; their deviations are the
    first order of how a process moves that mean (delta method, Oehlert 1992). With one length: plain logarithms.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
        centre = np.exp(np.mean(logs, axis=0))
        deviations: Floats = (logs - np.log(centre)) @ (centre / centre.sum())
        return np.asarray(np.log(np.mean(centre)) + deviations, dtype=np.float64)


def paired_ratio(numerator: Floats, denominator: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """exp(mean of log numerator - log denominator), both [processes] logarithms in the same order of repeats.

    Repeats interleave the approaches, so that repeat r of both ran next to each other: a randomised block, analysed by
    differences (Student 1908). It holds without correlation too, at the price of degrees of freedom.
    """
    if len(numerator) != len(denominator):
        raise ValueError(f"paired ratio: {len(numerator)} and {len(denominator)} processes; pair them by repeat first")
    return t_interval(numerator - denominator, confidence)


def welch_ratio(numerator: Floats, denominator: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """The same ratio for processes that ran at different times (two studies): Welch 1947 on logarithms."""
    n, m = len(numerator), len(denominator)
    if min(n, m) == 0:
        return NOTHING
    if not (np.all(np.isfinite(numerator)) and np.all(np.isfinite(denominator))):
        return Estimate(np.nan, np.nan, np.nan, min(n, m), NOT_POSITIVE)
    centre = float(np.mean(numerator) - np.mean(denominator))
    if min(n, m) < MIN_PROCESSES:
        return Estimate(float(np.exp(centre)), np.nan, np.nan, min(n, m), TOO_FEW_PROCESSES)
    first, second = np.var(numerator, ddof=1) / n, np.var(denominator, ddof=1) / m
    total = float(first + second)
    degrees = total**2 / (first**2 / (n - 1) + second**2 / (m - 1)) if total > 0 else float(n + m - 2)
    half = float(special.stdtrit(degrees, 0.5 + confidence / 2) * np.sqrt(total))
    return Estimate(float(np.exp(centre)), float(np.exp(centre - half)), float(np.exp(centre + half)), min(n, m))
