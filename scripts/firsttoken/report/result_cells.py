"""The results of an approach as text, for tables outside the report's own pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken.analysis.ranking import ranked
from firsttoken.analysis.schemas import read_untyped
from firsttoken.pooled_runs import RAN
from firsttoken.report import formatting
from firsttoken.report.table_page import Row, table_rows

DECIDING = ("Status", "Speedup", "TTFT, ms", "Next token, ms", "Floor / TTFT", "Floor / next token")
FURTHER = ("P99 TTFT, ms", "Memory, GiB", "Ready, s")


def ranked_rows(summary: Path) -> list[dict[str, Any]]:
    """The rows of summary.csv in the order of `ranked`, each with its `role`."""
    return table_rows(ranked(read_untyped(summary)))


def cells(row: Row) -> dict[str, str]:
    """Text under each heading of DECIDING and FURTHER; a dash where the approach has no latencies."""
    status = str(row["status"])
    if status not in RAN:
        return dict.fromkeys((*DECIDING, *FURTHER), formatting.NO_VALUE) | {"Status": status}
    on_device = pd.notna(row["device_over_idle_gib"])
    memory = formatting.with_interval(row, "device_over_idle_gib" if on_device else "host_peak_gib")
    return {
        "Status": f"{status}: {row['reason']}" if status == "approximate" else status,
        "Speedup": formatting.with_interval(row, "speedup_ttft"),
        "TTFT, ms": _latency(row, "ttft_mean"),
        "Next token, ms": _latency(row, "itl_request_mean"),
        "Floor / TTFT": formatting.percent(row["ttft_share_of_floor"]),
        "Floor / next token": formatting.percent(row["itl_share_of_floor"]),
        "P99 TTFT, ms": _latency(row, "ttft_p99"),
        "Memory, GiB": f"{memory}{'' if on_device else ' (host)'}",
        "Ready, s": formatting.with_interval(row, "ready_s"),
    }


def _latency(row: Row, column: str) -> str:
    """The value with its interval; where there is none, why: too few samples for a P99, say."""
    value, note = formatting.with_interval(row, f"{column}_ms"), formatting.text(row[f"{column}_note"])
    return f"{value} ({note})" if value == formatting.NO_VALUE and note else value
