"""Pooled samples, split into the three metrics and reduced to one statistic a process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from firsttoken.analysis.quantiles import pseudo_values
from firsttoken.analysis.schemas import METRICS
from firsttoken.analysis.statistics import STATISTICS, Floats
from firsttoken.pooled_runs import read_samples

_KEYS = ["approach", "repeat", "prompt_length"]
_COLUMNS = [*_KEYS, "request", "order", "token_index", "latency_ns", "tainted"]


class Requests(NamedTuple):
    """Untainted samples of one study in ms; for each metric the values [n] and the row of `cells` each is from [n]."""

    cells: pd.DataFrame  # approach, repeat, prompt_length, requests, tainted: a row a process and prompt length
    values: dict[str, Floats]
    groups: dict[str, np.ndarray]

    def by_process(self, metric: str) -> list[Floats]:
        """The values of each row of `cells`, in the order in which they were measured."""
        groups = self.groups[metric]
        ends = np.cumsum(np.bincount(groups, minlength=len(self.cells)))
        return np.split(self.values[metric][np.argsort(groups, kind="stable")], ends)[:-1]


def read_requests(samples: Path | str) -> Requests:
    """Split pooled samples into the three metrics; a request with a tainted token is left out whole, and counted."""
    frame = read_samples(samples, _COLUMNS).sort_values("order", kind="stable", ignore_index=True)
    by_cell = frame.groupby(_KEYS, sort=True, observed=True)
    cell = by_cell.ngroup().to_numpy(np.int64)
    cells = by_cell.size().index.to_frame(index=False)
    pairs = pd.MultiIndex.from_arrays([cell, frame["request"].to_numpy()])
    request, unique = pd.factorize(pairs)
    n_requests = len(unique)
    request_cell = np.empty(n_requests, np.int64)
    request_cell[request] = cell
    bad = np.bincount(request, weights=frame["tainted"].to_numpy(float), minlength=n_requests) > 0
    cells["requests"] = np.bincount(request_cell[~bad], minlength=len(cells))
    cells["tainted"] = np.bincount(request_cell[bad], minlength=len(cells))
    latency_ms = frame["latency_ns"].to_numpy(np.float64) / 1e6
    first = frame["token_index"].to_numpy() == 0
    kept = ~bad[request]
    ttft, gap = kept & first, kept & ~first
    sums = np.bincount(request[gap], weights=latency_ms[gap], minlength=n_requests)
    gaps = np.bincount(request[gap], minlength=n_requests)
    some = gaps > 0
    values = {"ttft": latency_ms[ttft], "itl_token_gap": latency_ms[gap], "itl_request_mean": sums[some] / gaps[some]}
    groups = {"ttft": cell[ttft], "itl_token_gap": cell[gap], "itl_request_mean": request_cell[some]}
    return Requests(cells, values, groups)


def over_repeats(cells: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """For each cell the number of its approach and prompt length, and these in the order of their numbers."""
    if cells.empty:
        return np.empty(0, np.int64), []
    codes, keys = pd.factorize(pd.MultiIndex.from_frame(cells[["approach", "prompt_length"]]))
    return codes, [(str(approach), int(length)) for approach, length in keys]


def process_statistics(requests: Requests) -> pd.DataFrame:
    """The table process_statistics: one row a process, prompt length, metric and statistic.

    A quantile has pseudo-values (`quantiles.py`), NaN where the processes together hold too few samples for it.
    """
    codes, keys = over_repeats(requests.cells)
    all_values, all_counts = [], []
    for metric in METRICS:
        processes = requests.by_process(metric)
        counts = np.array([len(process) for process in processes], np.int64)
        values = np.full((len(STATISTICS), len(processes)), np.nan)
        for key in range(len(keys)):
            rows = np.flatnonzero((codes == key) & (counts > 0))
            if len(rows):
                values[0, rows] = [processes[row].mean() for row in rows]
                values[1:, rows] = pseudo_values([processes[row] for row in rows]).T
        all_values.append(values.ravel())
        all_counts.append(np.tile(counts, len(STATISTICS)))
    each = len(requests.cells)
    table = pd.concat([requests.cells[_KEYS]] * (len(METRICS) * len(STATISTICS)), ignore_index=True)
    return table.assign(
        metric=np.repeat(METRICS, each * len(STATISTICS)),
        statistic=np.tile(np.repeat(list(STATISTICS), each), len(METRICS)),
        value=np.concatenate(all_values),
        n=np.concatenate(all_counts),
    )
