"""From pooled samples and run records to the tables of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from firsttoken import files
from firsttoken.analysis.complexity import source_lines
from firsttoken.analysis.instrument import instrument_table
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.samples import (
    INSTRUMENT,
    Requests,
    over_repeats,
    process_statistics,
    read_records,
    read_requests,
)
from firsttoken.analysis.schemas import METRICS, read_table, write_table
from firsttoken.analysis.statistics import (
    NOTHING,
    QUANTILES,
    STATISTICS,
    Estimate,
    order_statistic_interval,
)
from firsttoken.records import Ceilings, Floor, RunRecord, Status

BASELINE = "baseline"
GIB = 2**30
_MEMORY = ("device_over_idle", "device_reserved", "device_allocated")
_STATUS_ORDER: tuple[Status, ...] = ("failed", "unavailable", "emulated", "measured")
Row = dict[str, object]


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
        return self.status in ("measured", "emulated")


def summarise_latency(
    samples: Path | str,
    records: Sequence[Path | str],
    equivalence: Path | str,
    ceilings: Path | str,
    source_files_by_approach: Mapping[str, Sequence[Path | str]],
    approach_order: Sequence[str],
    controls: Sequence[str],
    out_summary: Path | str,
    out_latency_by_length: Path | str,
    out_process_statistics: Path | str,
    out_instrument: Path | str,
) -> None:
    """Write summary.csv, latency_by_length.csv, process_statistics.csv and instrument.csv of one study."""
    all_records = read_records(records)
    requests = read_requests(samples)
    statistics = process_statistics(requests)
    instrument = statistics["approach"].isin(INSTRUMENT)
    entries = study_entries(all_records, equivalence, approach_order)
    shown = {entry.name for entry in entries if entry.shows_latency}
    processes = pd.concat(
        [statistics[~instrument & statistics["approach"].isin(shown)], memory_statistics(entries)], ignore_index=True
    )
    table = ProcessTable(processes)
    by_length = latency_by_length(entries, requests, table, files.read_json(ceilings, Ceilings).floors)
    lines = {name: source_lines(paths) for name, paths in source_files_by_approach.items()}
    write_table(processes, "process_statistics", out_process_statistics)
    write_table(by_length, "latency_by_length", out_latency_by_length)
    write_table(summary(entries, requests, table, lines, controls), "summary", out_summary)
    write_table(instrument_table(statistics[instrument], all_records), "instrument", out_instrument)


def study_entries(records: Sequence[RunRecord], equivalence: Path | str, approach_order: Sequence[str]) -> list[Entry]:
    """The approaches that the study ran, in the given order and then by name; the instrument is none of them."""
    table = read_table(equivalence, "equivalence")
    verdicts = {
        str(name): (str(verdict), str(reason))
        for name, verdict, reason in zip(table["approach"], table["verdict"], table["reason"], strict=True)
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


def memory_statistics(entries: Sequence[Entry]) -> pd.DataFrame:
    """Peak memory of each process in GiB, in the layout of process_statistics with prompt length 0."""
    rows: list[Row] = []
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


def latency_by_length(
    entries: Sequence[Entry], requests: Requests, table: ProcessTable, floors: Sequence[Floor]
) -> pd.DataFrame:
    """A row an approach and prompt length; the rows of approaches without latencies are empty but for their status."""
    lengths = sorted(
        {int(length) for length in requests.cells["prompt_length"]} | {floor.prompt_length for floor in floors}
    )
    pooled = {metric: _pooled(requests, metric) for metric in METRICS}
    floor_of = {floor.prompt_length: floor for floor in floors}
    rows = []
    for entry in entries:
        for length in lengths:
            row: Row = {"approach": entry.name, "title": entry.records[0].title, "status": entry.status}
            row |= {"prompt_length": length} | _counts(entry, requests, length)
            row["n_gaps"] = len(pooled["itl_token_gap"].get((entry.name, length), ())) if entry.shows_latency else 0
            for metric in METRICS:
                values = pooled[metric].get((entry.name, length), np.empty(0)) if entry.shows_latency else np.empty(0)
                for statistic in STATISTICS:
                    row |= _statistic(
                        table.estimate(entry.name, metric, statistic, [length]), values, metric, statistic
                    )
            row |= _floor(row, floor_of.get(length))
            row |= with_interval("speedup_ttft", table.ratio(BASELINE, entry.name, "ttft", "mean", [length]))
            rows.append(row)
    return pd.DataFrame(rows)


def _pooled(requests: Requests, metric: str) -> dict[tuple[str, int], np.ndarray]:
    """Sorted values of all processes by approach and prompt length."""
    codes, keys = over_repeats(requests.cells)
    group = codes[requests.groups[metric]] if len(codes) else np.empty(0, np.int64)
    order = np.lexsort((requests.values[metric], group))
    bounds = np.searchsorted(group[order], np.arange(len(keys) + 1))
    values = requests.values[metric][order]
    return {key: values[bounds[place] : bounds[place + 1]] for place, key in enumerate(keys)}


def _counts(entry: Entry, requests: Requests, length: int | None) -> Row:
    cells = requests.cells[requests.cells["approach"] == entry.name]
    if length is not None:
        cells = cells[cells["prompt_length"] == length]
    kept = cells[cells["requests"] > 0]
    return {
        "n_processes": int(kept["repeat"].nunique()) if entry.shows_latency else 0,
        "n_requests": int(cells["requests"].sum()) if entry.shows_latency else 0,
        "n_tainted": int(cells["tainted"].sum()),
    }


def with_interval(name: str, estimate: Estimate, unit: str = "") -> Row:
    """As the schemas spell them: ttft_mean + _ms -> ttft_mean_ms, ttft_mean_low_ms, ttft_mean_high_ms."""
    return {f"{name}{unit}": estimate.value, f"{name}_low{unit}": estimate.low, f"{name}_high{unit}": estimate.high}


def _statistic(estimate: Estimate, ordered: np.ndarray, metric: str, statistic: str) -> Row:
    stem = f"{metric}_{statistic}"
    low, high = (
        order_statistic_interval(ordered, QUANTILES[statistic])
        if statistic in QUANTILES and not np.isnan(estimate.value)
        else (np.nan, np.nan)
    )
    note = estimate.note if len(ordered) else ""
    within = {f"{stem}_within_low_ms": low, f"{stem}_within_high_ms": high, f"{stem}_note": note}
    return with_interval(stem, estimate, "_ms") | within


def _floor(row: Row, floor: Floor | None) -> Row:
    if floor is None:
        return dict.fromkeys(("floor_ttft_ms", "floor_itl_ms", "ttft_share_of_floor", "itl_share_of_floor"), np.nan)
    ttft, itl = (np.float64(row[name]) for name in ("ttft_median_ms", "itl_request_mean_median_ms"))  # type: ignore[arg-type]
    return {
        "floor_ttft_ms": floor.ttft_ms,
        "floor_itl_ms": floor.itl_ms,
        "ttft_share_of_floor": floor.ttft_ms / ttft,
        "itl_share_of_floor": floor.itl_ms / itl,
    }


def summary(
    entries: Sequence[Entry], requests: Requests, table: ProcessTable, lines: Mapping[str, int], controls: Sequence[str]
) -> pd.DataFrame:
    """A row an approach: means over prompt lengths of the per-length values, and what the approach costs."""
    rows = []
    for entry in entries:
        first = entry.records[0]
        row: Row = {"approach": entry.name, "title": first.title, "status": entry.status, "reason": entry.reason}
        row |= {"control": entry.name in controls, "processes": first.processes}
        for name, metric, statistic in (
            ("ttft_mean", "ttft", "mean"),
            ("ttft_p99", "ttft", "p99"),
            ("itl_request_mean", "itl_request_mean", "mean"),
            ("itl_p99", "itl_token_gap", "p99"),
        ):
            estimate = table.estimate(entry.name, metric, statistic, table.lengths) if entry.shows_latency else NOTHING
            row |= with_interval(name, estimate, "_ms") | {f"{name}_note": estimate.note}
        for name, metric in (("speedup_ttft", "ttft"), ("speedup_itl", "itl_request_mean")):
            row |= with_interval(name, table.ratio(BASELINE, entry.name, metric, "mean", table.lengths))
        row |= _cost(entry) | _counts(entry, requests, None)
        row |= {"source_lines": lines.get(entry.name, pd.NA), "equivalence": entry.equivalence}
        rows.append(row)
    return pd.DataFrame(rows)


def _cost(entry: Entry) -> Row:
    """Medians over the processes that ran; NaN where nothing was measured."""
    ran = [record for record in entry.records if entry.shows_latency]

    def median(values: list[float | None]) -> float:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else np.nan

    return {
        "device_over_idle_gib": median([record.memory.device_over_idle_bytes for record in ran]) / GIB,
        "device_allocated_gib": median([record.memory.device_allocated_bytes for record in ran]) / GIB,
        "device_reserved_gib": median([record.memory.device_reserved_bytes for record in ran]) / GIB,
        "host_peak_gib": median([record.memory.host_peak_bytes for record in ran]) / GIB,
        "ready_s": median([record.ready_s for record in ran]),
        "cold_ttft_ms": median([record.cold_ttft_ms for record in ran]),
        "energy_j_per_token": median([record.telemetry.energy_j_per_token for record in ran]),
    }
