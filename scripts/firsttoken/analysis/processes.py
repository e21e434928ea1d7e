"""Access to one study's per-process statistics: the numbers behind every interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from firsttoken.analysis.quantiles import between_margins, widened
from firsttoken.analysis.statistics import (
    CONFIDENCE,
    N_TOO_SMALL,
    NO_VALUES,
    NOTHING,
    QUANTILES,
    Estimate,
    Floats,
    mean_over_lengths,
    paired_ratio,
    t_interval,
    welch_ratio,
)


class Values(NamedTuple):
    """One statistic of the processes that have it at all lengths asked: [processes] and [processes, lengths]."""

    repeats: NDArray[np.int64]
    values: Floats


class ProcessTable:
    """Per-process values by approach, metric and statistic; a process counts if it has all lengths asked."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.lengths = sorted(int(length) for length in frame["prompt_length"].unique() if length > 0)
        self._repeats = frame["repeat"].to_numpy(np.int64)
        self._lengths = frame["prompt_length"].to_numpy(np.int64)
        self._values = frame["value"].to_numpy(np.float64)
        self._rows = frame.groupby(["approach", "metric", "statistic"], observed=True).indices

    def values(self, approach: str, metric: str, statistic: str, lengths: Sequence[int]) -> Values:
        """Empty where the approach or a length is missing. Memory has the one length 0. Quantiles are pseudo-values."""
        wanted = [0] if metric == "memory" else list(lengths)
        rows = self._rows.get((approach, metric, statistic), np.empty(0, np.int64))
        repeats = np.unique(self._repeats[rows])
        table = np.full((len(repeats), len(wanted)), np.nan)
        for column, length in enumerate(wanted):
            here = rows[self._lengths[rows] == length]
            table[np.searchsorted(repeats, self._repeats[here]), column] = self._values[here]
        complete = ~np.isnan(table).any(axis=1) if wanted else np.zeros(len(repeats), bool)
        return Values(repeats[complete], table[complete])

    def logs(self, approach: str, metric: str, statistic: str, lengths: Sequence[int]) -> Floats:
        """One logarithm a process of the mean over `lengths`."""
        values = self.values(approach, metric, statistic, lengths).values
        return mean_over_lengths(values) if len(values) else np.empty(0)

    def estimate(
        self, approach: str, metric: str, statistic: str, lengths: Sequence[int], confidence: float = CONFIDENCE
    ) -> Estimate:
        """The mean over `lengths` with its t interval over processes, for a quantile with the margins of its spread."""
        logs = self.logs(approach, metric, statistic, lengths)
        if not len(logs):
            return NOTHING._replace(note=_missing(statistic))
        margins = self._margins(approach, metric, statistic, lengths, confidence)
        return widened(t_interval(logs, confidence), *margins)

    def ratio(
        self,
        numerator: str,
        denominator: str,
        metric: str,
        statistic: str,
        lengths: Sequence[int],
        confidence: float = CONFIDENCE,
    ) -> Estimate:
        """numerator / denominator, paired by repeat; `NOTHING` where one of them is missing."""
        a, b = paired([self.values(name, metric, statistic, lengths) for name in (numerator, denominator)])
        if not len(a):
            return NOTHING._replace(note=_missing(statistic))
        plain = paired_ratio(mean_over_lengths(a), mean_over_lengths(b), confidence)
        margins = [self._margins(name, metric, statistic, lengths, confidence) for name in (numerator, denominator)]
        return widened(plain, *_of_ratio(*margins))

    def _margins(
        self, approach: str, metric: str, statistic: str, lengths: Sequence[int], confidence: float
    ) -> tuple[float, float]:
        """How far below and above a quantile may lie for what is unknown of how processes differ; else zero."""
        logs = self.logs(approach, metric, statistic, lengths)
        if statistic not in QUANTILES or not len(logs):
            return 0.0, 0.0
        means = self.logs(approach, metric, "mean", lengths)
        return between_margins(float(np.mean(logs)), means, QUANTILES[statistic], confidence)


def _missing(statistic: str) -> str:
    """Why there is none: a quantile needs so many values, anything else was not recorded, or left out."""
    return N_TOO_SMALL if statistic in QUANTILES else NO_VALUES


def independent_ratio(
    numerator: ProcessTable,
    denominator: ProcessTable,
    approach: str,
    metric: str,
    statistic: str,
    lengths: Sequence[int],
    confidence: float = CONFIDENCE,
) -> Estimate:
    """One approach in two studies, which ran at different times: Welch's interval, with the same margins."""
    cell = (approach, metric, statistic, lengths)
    plain = welch_ratio(numerator.logs(*cell), denominator.logs(*cell), confidence)
    return widened(plain, *_of_ratio(*(table._margins(*cell, confidence) for table in (numerator, denominator))))


def _of_ratio(numerator: tuple[float, float], denominator: tuple[float, float]) -> tuple[float, float]:
    """Margins (below, above) of a ratio from those of its parts: it is low where its denominator is high."""
    (below, above), (under, over) = numerator, denominator
    return float(np.hypot(below, over)), float(np.hypot(above, under))


def paired(several: Sequence[Values]) -> list[Floats]:
    """The values [common repeats, lengths] of each, in the same order of repeats."""
    common = reduce(np.intersect1d, [each.repeats for each in several])
    return [each.values[np.isin(each.repeats, common)] for each in several]
