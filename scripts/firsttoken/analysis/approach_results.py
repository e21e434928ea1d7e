"""What became of each approach of a study: its status over all processes, why, and how much memory it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from firsttoken.pooled_runs import RAN, by_approach
from firsttoken.results import RunRecord, Status

GIB = 2**30
_STATUS_ORDER: tuple[Status, ...] = ("failed", "unavailable", "emulated", "approximate", "measured")


@dataclass(frozen=True)
class ApproachResult:
    """One approach of a study: its records, what became of it, and why."""

    name: str
    records: list[RunRecord]
    status: Status
    reason: str
    equivalence: str

    @property
    def shows_latency(self) -> bool:
        return self.status in RAN


def approach_results(
    records: Sequence[RunRecord], equivalence: pd.DataFrame, approach_order: Sequence[str]
) -> list[ApproachResult]:
    """The approaches that the study ran, in the given order and then by name; the instrument is none of them."""
    rows = zip(equivalence["approach"], equivalence["verdict"], equivalence["reason"], strict=True)
    verdicts = {str(name): (str(verdict), str(reason)) for name, verdict, reason in rows}
    runs = by_approach(records)
    ordered = [*(name for name in approach_order if name in runs), *sorted(set(runs) - {*approach_order})]
    return [_result(name, runs[name], verdicts.get(name, ("not checked", ""))) for name in ordered]


def worst_status(records: Sequence[RunRecord]) -> Status:
    """That of an approach whose processes differ."""
    return next(status for status in _STATUS_ORDER if any(record.status == status for record in records))


def _result(name: str, records: list[RunRecord], verdict: tuple[str, str]) -> ApproachResult:
    status = worst_status(records)
    concerned = [record for record in records if record.status == status]
    reason = concerned[0].reason
    if status in ("failed", "unavailable") and len(concerned) < len(records):
        reason = f"{len(concerned)} of {len(records)} processes, first repeat {concerned[0].repeat}: {reason}"
    equal, why = verdict
    if equal == "different":
        different = f"computes another function: {why}"
        reason = f"{reason}; {different}" if status == "failed" else different
        status = "failed"
    if equal == "approximate":
        reason = why
    return ApproachResult(name, records, status, reason, equal)


def shown_statistics(statistics: pd.DataFrame, results: Sequence[ApproachResult]) -> pd.DataFrame:
    """The rows of process_statistics of approaches whose latencies are shown, and their memory."""
    shown = [result.name for result in results if result.shows_latency]
    return pd.concat([statistics[statistics["approach"].isin(shown)], memory_statistics(results)], ignore_index=True)


def memory_statistics(results: Sequence[ApproachResult]) -> pd.DataFrame:
    """Peak memory of each process in GiB, in the layout of process_statistics with prompt length 0."""
    rows: list[tuple[object, ...]] = []
    for record in [record for result in results if result.shows_latency for record in result.records]:
        for name in ("device_over_idle", "device_reserved", "host_peak"):
            peak = getattr(record.memory, f"{name}_bytes")
            if peak is not None:
                rows.append((record.approach, record.repeat, 0, "memory", name, peak / GIB, 1))
    columns = ["approach", "repeat", "prompt_length", "metric", "statistic", "value", "n"]
    types = {"repeat": int, "prompt_length": int, "value": float, "n": int}
    return pd.DataFrame(rows, columns=columns).astype(types)
