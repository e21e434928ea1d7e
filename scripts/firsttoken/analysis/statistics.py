"""The statistics of a study: few, by scipy and numpy, each with its source.

The process is the unit: a number with an interval here always comes from one statistic per process. Latencies are
positive and skewed, so that intervals are taken on the logarithm. The value shown is the geometric mean over processes
(what the interval is about); where no process was lost, ratios of shown values are exactly the ratios with the
intervals. For quantiles the statistics of the processes are pseudo-values, whose geometric mean is the pooled quantile
(`quantiles.py`).

scipy is imported where it is used: that takes a second, and most jobs need the names here alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
STATISTICS = ("mean", *QUANTILES)
CONFIDENCE = 0.95
MIN_PROCESSES = 5  # below this a t interval says more about luck than about the machine
TOO_FEW_PROCESSES = "too few processes"
N_TOO_SMALL = "n too small"
NO_VALUES = "no values"
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


def t_interval(logs: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """exp of Student's t interval over logarithms, one a process (Student 1908; logs: Hoefler and Belli 2015)."""
    if len(logs) and not np.all(np.isfinite(logs)):
        return Estimate(np.nan, np.nan, np.nan, len(logs), NOT_POSITIVE)
    return _exp(difference_interval(logs, confidence))


def difference_interval(values: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Student's t interval of a mean on the scale of the values: for differences in ms, which may be negative."""
    n = len(values)
    if n == 0:
        return NOTHING
    centre = float(np.mean(values))
    if n < MIN_PROCESSES:
        return Estimate(centre, np.nan, np.nan, n, TOO_FEW_PROCESSES)
    if np.ptp(values) == 0:  # an approach over itself; rounding of the mean would give it a width
        return Estimate(centre, centre, centre, n)
    from scipy import special

    half = float(special.stdtrit(n - 1, (1 + confidence) / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(centre, centre - half, centre + half, n)


def _exp(estimate: Estimate) -> Estimate:
    value, low, high = np.exp(estimate[:3]).tolist()
    return Estimate(value, low, high, estimate.n, estimate.note)


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
    if np.ptp(numerator) == np.ptp(denominator) == 0:
        return _exp(Estimate(centre, centre, centre, min(n, m)))
    from scipy import stats

    interval = stats.ttest_ind(numerator, denominator, equal_var=False).confidence_interval(confidence)
    return _exp(Estimate(centre, float(interval.low), float(interval.high), min(n, m)))
