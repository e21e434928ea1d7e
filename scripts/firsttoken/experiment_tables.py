"""The columns of the tables that experiments measure, `results/{study}/experiments/*.csv`.

Apart from the tables of analysis: measuring depends on this file, and a new column of an analysis table must measure
nothing again.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from firsttoken import csv_tables
from firsttoken.csv_tables import Column, Columns, count, each, maybe_count, number, text

EXPERIMENTS: dict[str, Columns] = {
    "ipc": {
        "form": text("one_process", "two_processes", "two_processes_spin"),
        "clients": count(),
        "metric": text("first_token", "token_gap"),
        "n": count(),
        **each(number(0), "mean_us", "median_us", "p99_us"),
    },
    "clients": {
        "arrangement": text("shared_queue", "copies"),
        "approach": text(),
        **each(count(), "clients", "round", "requests"),
        **each(number(0), "duration_s", "ttft_mean_ms", "ttft_median_ms"),
        "reason": text(),
    },
    "pool_memory": {
        "mode": text("rolling", "unbounded"),
        **each(count(), "step", "prompt_length"),
        **each(maybe_count(), "device_used_bytes", "device_reserved_bytes", "device_allocated_bytes", "graph_bytes"),
        **each(count(), "host_bytes", "captures", "evictions", "failed_captures"),
    },
    "pool_misses": {
        "kind": text("miss", "after_capture", "beforehand"),
        **each(count(), "prompt_length", "request"),
        "ttft_ms": number(0),
        "pool_hit": Column("boolean", gaps=True),
    },
    "launches": {
        "approach": text(),
        "track": text("host", "device"),
        "name": text(),
        "start_us": number(),
        "duration_us": number(0),
    },
}


def write_experiment(frame: pd.DataFrame, name: str, path: Path | str) -> None:
    """Put the columns in order, validate, write as CSV. Raises ValueError that names file and column."""
    csv_tables.write_table(frame, name, EXPERIMENTS[name], path)


def read_experiment(path: Path | str, name: str) -> pd.DataFrame:
    """Read and validate an experiment's table; empty text is "", an empty number NaN."""
    return csv_tables.read_table(path, name, EXPERIMENTS[name])
