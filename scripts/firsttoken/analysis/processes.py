"""Access to one study's per-process statistics: the numbers behind every interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from firsttoken.analysis.schemas import read_table
from firsttoken.analysis.statistics import (
    CONFIDENCE,
    N_TOO_SMALL,
    NOTHING,
    Estimate,
    Floats,
    mean_over_lengths,
    paired_ratio,
    t_interval,
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

    @classmethod
    def read(cls, path: Path | str) -> ProcessTable:
        return cls(read_table(path, "process_statistics"))

    def values(self, approach: str, metric: str, statistic: str, lengths: Sequence[int]) -> Values:
        """Empty where the approach or a length is missing. Memory has the one length 0."""
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

    def estimate(self, approach: str, metric: str, statistic: str, lengths: Sequence[int]) -> Estimate:
        """The mean over `lengths` with its t interval over processes."""
        logs = self.logs(approach, metric, statistic, lengths)
        return t_interval(logs) if len(logs) else NOTHING._replace(note=N_TOO_SMALL)

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
            return NOTHING._replace(note=N_TOO_SMALL)
        return paired_ratio(mean_over_lengths(a), mean_over_lengths(b), confidence)


def paired(several: Sequence[Values]) -> list[Floats]:
    """The values [common repeats, lengths] of each, in the same order of repeats."""
    common = reduce(np.intersect1d, [each.repeats for each in several])
    return [each.values[np.isin(each.repeats, common)] for each in several]
