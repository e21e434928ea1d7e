"""Access to one study's per-process statistics: the numbers behind every interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

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


class ProcessTable:
    """Per-process values by approach, metric and statistic; a process counts if it has all lengths asked."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._wide: dict[tuple[str, str, str], pd.DataFrame] = {}
        self.lengths = sorted(int(length) for length in frame["prompt_length"].unique() if length > 0)
        self._frame = frame
        self._rows = frame.groupby(["approach", "metric", "statistic"], observed=True).indices

    @classmethod
    def read(cls, path: Path | str) -> ProcessTable:
        return cls(read_table(path, "process_statistics"))

    def approaches(self) -> set[str]:
        return {str(approach) for approach in self._frame["approach"].unique()}

    def values(self, approach: str, metric: str, statistic: str, lengths: Sequence[int]) -> pd.DataFrame:
        """[repeats, lengths]; empty where the approach or a length is missing. Memory has the one length 0."""
        lengths = [0] if metric == "memory" else list(lengths)
        key = (approach, metric, statistic)
        if key in self._rows and key not in self._wide:
            part = self._frame.iloc[self._rows[key]]
            self._wide[key] = part.pivot(index="repeat", columns="prompt_length", values="value")
        wide = self._wide.get(key)
        if wide is None or not lengths or not set(lengths) <= set(wide.columns):
            return pd.DataFrame(index=pd.Index([], dtype=int), columns=lengths, dtype=float)
        return wide[lengths].dropna()

    def logs(self, approach: str, metric: str, statistic: str, lengths: Sequence[int]) -> pd.Series:
        """One logarithm a process (index: repeat) of the mean over `lengths`."""
        wide = self.values(approach, metric, statistic, lengths)
        values: Floats = wide.to_numpy(np.float64)
        return pd.Series(mean_over_lengths(values) if len(values) else [], index=wide.index, dtype=float)

    def estimate(self, approach: str, metric: str, statistic: str, lengths: Sequence[int]) -> Estimate:
        """The mean over `lengths` with its t interval over processes."""
        logs = self.logs(approach, metric, statistic, lengths).to_numpy(np.float64)
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
        a = self.logs(numerator, metric, statistic, lengths)
        b = self.logs(denominator, metric, statistic, lengths)
        common = a.index.intersection(b.index)
        if common.empty:
            return NOTHING._replace(note=N_TOO_SMALL)
        # Recomputed over the common repeats: the logs of a mean over lengths are centred on the repeats they come from.
        kept = [
            self.values(x, metric, statistic, lengths).loc[common].to_numpy(np.float64)
            for x in (numerator, denominator)
        ]
        return paired_ratio(mean_over_lengths(kept[0]), mean_over_lengths(kept[1]), confidence)
