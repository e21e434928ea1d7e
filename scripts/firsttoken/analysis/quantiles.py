"""Quantiles of all requests of a cell together, with how each process moves them.

The value is what a client of the machine sees: the quantile of the requests of all processes. Its interval comes from
leaving out one process at a time (jackknife), and is widened by what few processes leave unknown about the spread
between processes. `docs/intervals.md` has the other methods that were tried, and the simulated coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import special

from firsttoken.analysis.statistics import CONFIDENCE, MIN_PROCESSES, QUANTILES, Estimate, Floats

CLOCK_MS = 1e-6  # one nanosecond, the clock's resolution: tokens that arrive together have no gap, so no logarithm


def smallest_pooled_n(probability: float, confidence: float = CONFIDENCE) -> int:
    """Requests for a finite order-statistic interval (Conover 1999): P99 368, P95 72, P90 36, median 6."""
    return int(np.floor(np.log((1 - confidence) / 2) / np.log(max(probability, 1 - probability)))) + 1


def pseudo_values(processes: Sequence[Floats]) -> Floats:
    """A value a process and quantile whose geometric mean over processes is the pooled quantile.

    processes: the values in ms, [n] each; returns [processes, len(QUANTILES)], NaN under `smallest_pooled_n` values in
    all. The quantile is median-unbiased (Hyndman and Fan 1996, definition 8).
    Deviations on the log are the jackknife's, (processes - 1) x what leaving one out changes (Tukey 1958). They are
    taken of the Harrell-Davis quantile (1982), since single order statistics jump; the centre is the quantile itself.
    """
    result = np.full((len(processes), len(QUANTILES)), np.nan)
    values = np.concatenate(processes)
    order = np.argsort(values)
    owner = np.repeat(np.arange(len(processes)), [len(process) for process in processes])[order]
    logs = np.log(np.maximum(values[order], CLOCK_MS))
    without = [logs[owner != process] for process in range(len(processes))] if len(processes) > 1 else [logs]
    carried = [probability for probability in QUANTILES.values() if len(values) >= smallest_pooled_n(probability)]
    pooled = np.quantile(values, carried, method="median_unbiased")
    for column, probability in enumerate(carried):
        left = np.array([_harrell_davis(each, probability) for each in without])
        result[:, column] = pooled[column] * np.exp((len(left) - 1) * (left.mean() - left))
    return result


def _harrell_davis(ordered: Floats, probability: float) -> float:
    first, weights = _weights(len(ordered), probability)
    return float(weights @ ordered[first : first + len(weights)])


@lru_cache(maxsize=4096)
def _weights(n: int, probability: float) -> tuple[int, Floats]:
    """Where the weights of n order statistics begin, and the weights; beyond ten standard deviations there are none."""
    reach = 10 * np.sqrt(n * probability * (1 - probability)) + 10
    first, last = max(0, int(n * probability - reach)), min(n, int(n * probability + reach))
    shares = special.betainc((n + 1) * probability, (n + 1) * (1 - probability), np.arange(first, last + 1) / n)
    weights = np.diff(shares)
    return first, weights / weights.sum()


def between_margins(
    log_quantile: float, log_means: Floats, probability: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """How far below and above its estimate the log of a quantile may lie, since few processes show little of how
    processes differ.

    log_means: one a process, [processes]. With z the normal quantile, z^2 variance is the processes' share of the
    squared distance from mean to quantile. The variance is replaced by its chi-squared bounds, as in intervals from
    variance estimates recovered (MOVER: Zou and Donner 2008). Zero for a median, and with too few processes.
    """
    n, z = len(log_means), special.ndtri(probability)
    if n < MIN_PROCESSES or z <= 0 or not np.isfinite([log_quantile, *log_means]).all():
        return 0.0, 0.0
    distance = max(log_quantile - float(np.mean(log_means)), 0.0)
    share = z**2 * np.var(log_means, ddof=1)
    rest = max(distance**2 - share, 0.0)
    tail = (1 - confidence) / 2
    least, most = (n - 1) / special.chdtri(n - 1, [tail, 1 - tail])  # of the upper tail
    low, high = np.sqrt(rest + least * share), np.sqrt(rest + most * share)
    return max(distance - low, 0.0), max(high - distance, 0.0)


def widened(estimate: Estimate, below: float, above: float) -> Estimate:
    """The interval with margins on the log added in quadrature; one without width (an approach over itself) stays."""
    if np.isnan(estimate.low) or estimate.low == estimate.high:
        return estimate
    low = np.hypot(np.log(estimate.value / estimate.low), below)
    high = np.hypot(np.log(estimate.high / estimate.value), above)
    return estimate._replace(low=estimate.value * np.exp(-low), high=estimate.value * np.exp(high))
