"""From pooled samples and run records to the tables of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from firsttoken import files
from firsttoken.analysis.approach_results import GIB, ApproachResult, approach_results, shown_statistics
from firsttoken.analysis.complexity import source_lines
from firsttoken.analysis.instrument import instrument_table
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.requests import Requests, over_repeats, process_statistics, read_requests
from firsttoken.analysis.schemas import FLOORS, METRICS, Row, read_table, with_interval, write_table
from firsttoken.analysis.statistics import (
    ALL_TAINTED,
    NOTHING,
    QUANTILES,
    STATISTICS,
    Estimate,
    order_statistic_interval,
)
from firsttoken.pooled_runs import INSTRUMENT, RAN, read_records
from firsttoken.results import Ceilings, Floor

BASELINE = "baseline"


def summarise_latency(
    samples: Path | str,
    records: Path | str,
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
    results = approach_results(all_records, read_table(equivalence, "equivalence"), approach_order)
    processes = shown_statistics(statistics, results)
    table = ProcessTable(processes)
    floors = files.read_json(ceilings, Ceilings).floors
    by_length = latency_by_length(results, requests, table, floors)
    lines = {name: source_lines(paths) for name, paths in source_files_by_approach.items()}
    write_table(processes, "process_statistics", out_process_statistics)
    write_table(by_length, "latency_by_length", out_latency_by_length)
    write_table(summary(results, requests, table, floors, lines, controls), "summary", out_summary)
    write_table(instrument_table(statistics[instrument], all_records), "instrument", out_instrument)


def latency_by_length(
    results: Sequence[ApproachResult], requests: Requests, table: ProcessTable, floors: Sequence[Floor]
) -> pd.DataFrame:
    """A row an approach and prompt length; the rows of approaches without latencies are empty but for their status."""
    lengths = sorted(
        {int(length) for length in requests.cells["prompt_length"]} | {floor.prompt_length for floor in floors}
    )
    pooled = {metric: _pooled(requests, metric) for metric in METRICS}
    rows = []
    for result in results:
        for length in lengths:
            row: Row = {"approach": result.name, "title": result.records[0].title, "status": result.status}
            row |= {"prompt_length": length} | _counts(result, requests, length)
            row["n_gaps"] = len(pooled["itl_token_gap"].get((result.name, length), ())) if result.shows_latency else 0
            for metric in METRICS:
                values = pooled[metric].get((result.name, length), np.empty(0))
                for statistic in STATISTICS:
                    estimate = table.estimate(result.name, metric, statistic, [length])
                    row |= _statistic(estimate, values, metric, statistic)
                    row[f"{metric}_{statistic}_note"] = _note(row, estimate)
            here = [floor for floor in floors if floor.prompt_length == length]
            row |= _floor(here, row["ttft_median_ms"], row["itl_request_mean_median_ms"])
            row |= with_interval("speedup_ttft", table.ratio(BASELINE, result.name, "ttft", "mean", [length]))
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


def _counts(result: ApproachResult, requests: Requests, length: int | None) -> Row:
    cells = requests.cells[requests.cells["approach"] == result.name]
    if length is not None:
        cells = cells[cells["prompt_length"] == length]
    kept = cells[cells["requests"] > 0]
    return {
        "n_processes": int(kept["repeat"].nunique()) if result.shows_latency else 0,
        "n_requests": int(cells["requests"].sum()) if result.shows_latency else 0,
        "n_tainted": int(cells["tainted"].sum()),
    }


def _statistic(estimate: Estimate, ordered: np.ndarray, metric: str, statistic: str) -> Row:
    stem = f"{metric}_{statistic}"
    carried = statistic in QUANTILES and not np.isnan(estimate.value)
    within = order_statistic_interval(ordered, QUANTILES[statistic]) if carried else NOTHING
    return with_interval(stem, estimate, "_ms") | with_interval(f"{stem}_within", within, "_ms")


def _note(row: Row, estimate: Estimate) -> str:
    """Why there is no interval or no value, where the approach has requests."""
    if row["status"] not in RAN:
        return ""
    return ALL_TAINTED if row["n_tainted"] and not row["n_requests"] else estimate.note


def _floor(floors: Sequence[Floor], ttft_ms: object, itl_ms: object) -> Row:
    """Means of the floors, the share of them that the two medians reach, and the mean time of the best library."""
    if not floors:
        return dict.fromkeys(FLOORS, np.nan)
    times = [(floor.ttft_ms, floor.itl_ms, floor.library_ttft_ms) for floor in floors]
    ttft_floor_ms, itl_floor_ms, library_ms = np.array(times, float).mean(axis=0)
    shares = (ttft_floor_ms / ttft_ms, itl_floor_ms / itl_ms)
    return dict(zip(FLOORS, (ttft_floor_ms, itl_floor_ms, *shares, library_ms), strict=True))


def summary(
    results: Sequence[ApproachResult],
    requests: Requests,
    table: ProcessTable,
    floors: Sequence[Floor],
    lines: Mapping[str, int],
    controls: Sequence[str],
) -> pd.DataFrame:
    """A row an approach: means over prompt lengths of the per-length values, and what the approach costs."""
    rows = []
    for result in results:
        first = result.records[0]
        row: Row = {"approach": result.name, "title": first.title, "status": result.status, "reason": result.reason}
        row |= {"control": result.name in controls, "processes": first.processes} | _counts(result, requests, None)
        row["taint_reasons"] = "; ".join(
            sorted({reason for record in result.records for reason in record.telemetry.taint_reasons})
        )
        for name, metric, statistic in (
            ("ttft_mean", "ttft", "mean"),
            ("ttft_p99", "ttft", "p99"),
            ("itl_request_mean", "itl_request_mean", "mean"),
            ("itl_p99", "itl_token_gap", "p99"),
        ):
            estimate = table.estimate(result.name, metric, statistic, table.lengths)
            row |= with_interval(name, estimate, "_ms") | {f"{name}_note": _note(row, estimate)}
        over = [floor for floor in floors if floor.prompt_length in table.lengths]
        medians = (
            table.estimate(result.name, metric, "median", table.lengths).value
            for metric in ("ttft", "itl_request_mean")
        )
        row |= _floor(over, *medians)
        for name, metric in (("speedup_ttft", "ttft"), ("speedup_itl", "itl_request_mean")):
            row |= with_interval(name, table.ratio(BASELINE, result.name, metric, "mean", table.lengths))
        row |= _cost(result)
        row |= {"source_lines": lines.get(result.name, pd.NA), "equivalence": result.equivalence}
        rows.append(row)
    return pd.DataFrame(rows)


def _cost(result: ApproachResult) -> Row:
    """Medians over the processes that ran; NaN where nothing was measured."""
    ran = result.records if result.shows_latency else []
    memory: Row = {
        f"{name}_gib": _median([getattr(record.memory, f"{name}_bytes") for record in ran]) / GIB
        for name in ("device_over_idle", "device_allocated", "device_reserved", "host_peak")
    }
    return memory | {
        "ready_s": _median([record.ready_s for record in ran]),
        "cold_ttft_ms": _median([record.cold_ttft_ms for record in ran]),
        "energy_j_per_token": _median([record.telemetry.energy_j_per_token for record in ran]),
    }


def _median(values: Sequence[float | None]) -> float:
    """Of the values that were recorded; NaN where there is none."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else np.nan
