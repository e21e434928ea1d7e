"""What became of each approach of a study: its status over all processes, why, and how much memory it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from firsttoken.pooled_runs import INSTRUMENT, RAN
from firsttoken.results import RunRecord, Status

GIB = 2**30
_STATUS_ORDER: tuple[Status, ...] = ("failed", "unavailable", "emulated", "measured")


@dataclass(frozen=True)
class Entry:
    """One approach of a study: its records, what became of it, and why."""

    name: str
    records: list[RunRecord]
    status: Status
    reason: str
    equivalence: str

    @property
    def shows_latency(self) -> bool:
        return self.status in RAN


def study_entries(
    records: Sequence[RunRecord], equivalence: pd.DataFrame, approach_order: Sequence[str]
) -> list[Entry]:
    """The approaches that the study ran, in the given order and then by name; the instrument is none of them."""
    verdicts = {
        str(name): (str(verdict), str(reason))
        for name, verdict, reason in zip(
            equivalence["approach"], equivalence["verdict"], equivalence["reason"], strict=True
        )
    }
    names = sorted({record.approach for record in records} - set(INSTRUMENT))
    order = [name for name in approach_order if name in names] + [name for name in names if name not in approach_order]
    return [
        _entry(name, [record for record in records if record.approach == name], verdicts.get(name, ("not checked", "")))
        for name in order
    ]


def _entry(name: str, records: list[RunRecord], verdict: tuple[str, str]) -> Entry:
    status = next(status for status in _STATUS_ORDER if any(record.status == status for record in records))
    concerned = [record for record in records if record.status == status]
    reason = concerned[0].reason
    if status in ("failed", "unavailable") and len(concerned) < len(records):
        reason = f"{len(concerned)} of {len(records)} processes, first repeat {concerned[0].repeat}: {reason}"
    equal, why = verdict
    if equal == "different":
        different = f"computes another function: {why}"
        return Entry(name, records, "failed", f"{reason}; {different}" if status == "failed" else different, equal)
    return Entry(name, records, status, reason, equal)


def shown_statistics(statistics: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """The rows of process_statistics of approaches whose latencies are shown, and their memory."""
    shown = [entry.name for entry in entries if entry.shows_latency]
    return pd.concat([statistics[statistics["approach"].isin(shown)], memory_statistics(entries)], ignore_index=True)


def memory_statistics(entries: Sequence[Entry]) -> pd.DataFrame:
    """Peak memory of each process in GiB, in the layout of process_statistics with prompt length 0."""
    rows: list[dict[str, object]] = []
    for entry in entries:
        for record in entry.records if entry.shows_latency else []:
            memory = record.memory
            peaks = {
                "device_over_idle": memory.device_over_idle_bytes,
                "device_reserved": memory.device_reserved_bytes,
                "host_peak": memory.host_peak_bytes,
            }
            rows += [
                {"approach": entry.name, "repeat": record.repeat, "prompt_length": 0, "metric": "memory"}
                | {"statistic": name, "value": peak / GIB, "n": 1}
                for name, peak in peaks.items()
                if peak is not None
            ]
    columns = ["approach", "repeat", "prompt_length", "metric", "statistic", "value", "n"]
    types = {"repeat": int, "prompt_length": int, "value": float, "n": int}
    return pd.DataFrame(rows, columns=columns).astype(types)
