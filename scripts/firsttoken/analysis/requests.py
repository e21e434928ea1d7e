"""Pooled samples, split into the three metrics and reduced to one statistic a process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from firsttoken.analysis.schemas import METRICS
from firsttoken.analysis.statistics import QUANTILES, STATISTICS, Floats, grouped_statistics, smallest_pooled_n
from firsttoken.pooled_runs import read_samples

_KEYS = ["approach", "repeat", "prompt_length"]
_COLUMNS = [*_KEYS, "request", "token_index", "latency_ns", "tainted"]


class Requests(NamedTuple):
    """Untainted samples of one study in ms; for each metric the values [n] and the row of `cells` each is from [n]."""

    cells: pd.DataFrame  # approach, repeat, prompt_length, requests, tainted: a row a process and prompt length
    values: dict[str, Floats]
    groups: dict[str, np.ndarray]


def read_requests(samples: Path | str) -> Requests:
    """Split pooled samples into the three metrics; a request with a tainted token is left out whole, and counted."""
    frame = read_samples(samples, _COLUMNS)
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

    A quantile is NaN where the processes together hold too few samples for it, or its own process does.
    """
    parts = []
    over_processes, _ = over_repeats(requests.cells)
    for metric in METRICS:
        values, counts = grouped_statistics(requests.values[metric], requests.groups[metric], len(requests.cells))
        pooled = np.bincount(over_processes, weights=counts)[over_processes] if len(counts) else counts
        for column, statistic in enumerate(STATISTICS):
            if statistic in QUANTILES:
                values[pooled < smallest_pooled_n(QUANTILES[statistic]), column] = np.nan
            part = requests.cells[_KEYS].copy()
            part["metric"], part["statistic"] = metric, statistic
            part["value"], part["n"] = values[:, column], counts
            parts.append(part)
    return pd.concat(parts, ignore_index=True)
