"""From pooled samples and run records to the tables of a study."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from radon.raw import analyze

from firsttoken import files
from firsttoken.analysis.approach_results import GIB, ApproachResult, approach_results, shown_statistics
from firsttoken.analysis.doubts import cell_doubts, summary_doubts
from firsttoken.analysis.instrument import instrument_table
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.requests import Requests, over_repeats, process_statistics, read_requests
from firsttoken.analysis.schemas import ERRORS, FLOORS, METRICS, Row, read_table, with_interval, write_table
from firsttoken.analysis.statistics import ALL_TAINTED, NOTHING, STATISTICS, Estimate, t_interval
from firsttoken.plan import INSTRUMENT
from firsttoken.pooled_runs import RAN, read_records
from firsttoken.results import Ceilings, Floor

BASELINE = "baseline"
POWER_LIMITED = 0.5  # share of the readings; below it, the limit is met now and then
Floors = Mapping[int | None, Sequence[Floor]]  # by the bits of quantised weights


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
    verdicts = read_table(equivalence, "equivalence")
    results = approach_results(all_records, verdicts, approach_order)
    processes = shown_statistics(statistics, results)
    table = ProcessTable(processes)
    measured = files.read_json(ceilings, Ceilings)
    floors: Floors = {None: measured.floors, 8: measured.floors_int8}
    by_length = latency_by_length(results, requests, table, floors)
    lines = {name: source_lines(paths) for name, paths in source_files_by_approach.items()}
    write_table(processes, "process_statistics", out_process_statistics)
    write_table(by_length, "latency_by_length", out_latency_by_length)
    whole = summary(results, requests, table, floors, lines, controls, by_length)
    whole = whole.merge(verdicts[["approach", *ERRORS]], how="left")
    write_table(whole, "summary", out_summary)
    write_table(instrument_table(statistics[instrument], all_records), "instrument", out_instrument)


def source_lines(paths: Sequence[Path | str]) -> int:
    """How much an approach is to read: radon's SLOC (no blanks, comments, docstrings) of its file and the package files
    that it imports; each file counts once."""
    return sum(analyze(Path(path).read_text(encoding="utf-8")).sloc for path in sorted({str(path) for path in paths}))


def latency_by_length(
    results: Sequence[ApproachResult], requests: Requests, table: ProcessTable, floors: Floors
) -> pd.DataFrame:
    """A row an approach and prompt length; the rows of approaches without latencies are empty but for their status."""
    of_model = {floor.prompt_length for floor in floors.get(None, ())}
    lengths = sorted({int(length) for length in requests.cells["prompt_length"]} | of_model)
    codes, keys = over_repeats(requests.cells)
    by_process = {metric: requests.by_process(metric) for metric in METRICS}
    rows = []
    for result in results:
        for length in lengths:
            row: Row = {"approach": result.name, "title": result.records[0].title, "status": result.status}
            row |= {"prompt_length": length} | _counts(result, requests, length)
            key = keys.index((result.name, length)) if (result.name, length) in keys else -1
            cells = np.flatnonzero(codes == key).tolist() if result.shows_latency else []
            row["n_gaps"] = sum(len(by_process["itl_token_gap"][cell]) for cell in cells)
            for metric in METRICS:
                for statistic in STATISTICS:
                    estimate = table.estimate(result.name, metric, statistic, [length])
                    row |= with_interval(f"{metric}_{statistic}_ms", estimate)
                    row[f"{metric}_{statistic}_note"] = _note(row, estimate)
                repeats = [int(requests.cells["repeat"].iloc[cell]) for cell in cells]
                row[f"{metric}_doubts"] = cell_doubts([by_process[metric][cell] for cell in cells], repeats)
            row |= _floor(floors, result, [length], row["ttft_median_ms"], row["itl_request_mean_median_ms"])
            row |= with_interval("speedup_ttft", table.ratio(BASELINE, result.name, "ttft", "mean", [length]))
            rows.append(row)
    return pd.DataFrame(rows)


def _counts(result: ApproachResult, requests: Requests, length: int | None) -> Row:
    cells = requests.cells[requests.cells["approach"] == result.name]
    if length is not None:
        cells = cells[cells["prompt_length"] == length]
    complete = cells.groupby("repeat")["requests"].min() > 0  # as in ProcessTable: with every prompt length
    return {
        "n_processes": int(complete.sum()) if result.shows_latency else 0,
        "n_requests": int(cells["requests"].sum()) if result.shows_latency else 0,
        "n_tainted": int(cells["tainted"].sum()),
    }


def _note(row: Row, estimate: Estimate) -> str:
    """Why there is no interval or no value, where the approach has requests."""
    if row["status"] not in RAN:
        return ""
    return ALL_TAINTED if row["n_tainted"] and not row["n_requests"] else estimate.note


def _floor(floors: Floors, result: ApproachResult, lengths: Sequence[int], ttft_ms: object, itl_ms: object) -> Row:
    """Means of the floors, the share of them that the two medians reach, and the mean time of the best library."""
    over = [floor for floor in floors.get(result.records[0].weight_bits, ()) if floor.prompt_length in lengths]
    if not over:
        return dict.fromkeys(FLOORS, np.nan)
    times = [(floor.ttft_ms, floor.itl_ms, floor.library_ttft_ms) for floor in over]
    ttft_floor_ms, itl_floor_ms, library_ms = np.array(times, float).mean(axis=0)
    shares = (ttft_floor_ms / ttft_ms, itl_floor_ms / itl_ms)
    return dict(zip(FLOORS, (ttft_floor_ms, itl_floor_ms, *shares, library_ms), strict=True))


def summary(
    results: Sequence[ApproachResult],
    requests: Requests,
    table: ProcessTable,
    floors: Floors,
    lines: Mapping[str, int],
    controls: Sequence[str],
    by_length: pd.DataFrame,
) -> pd.DataFrame:
    """A row an approach: means over prompt lengths of the per-length values, and what the approach costs."""
    rows = []
    for result in results:
        first = result.records[0]
        row: Row = {"approach": result.name, "title": first.title, "status": result.status, "reason": result.reason}
        row |= {"control": result.name in controls, "processes": first.processes} | _counts(result, requests, None)
        for name, metric, statistic in (
            ("ttft_mean", "ttft", "mean"),
            ("ttft_p99", "ttft", "p99"),
            ("itl_request_mean", "itl_request_mean", "mean"),
            ("itl_p99", "itl_token_gap", "p99"),
        ):
            estimate = table.estimate(result.name, metric, statistic, table.lengths)
            row |= with_interval(f"{name}_ms", estimate) | {f"{name}_note": _note(row, estimate)}
        medians = (
            table.estimate(result.name, metric, "median", table.lengths).value
            for metric in ("ttft", "itl_request_mean")
        )
        row |= _floor(floors, result, table.lengths, *medians)
        for name, metric in (("speedup_ttft", "ttft"), ("speedup_itl", "itl_request_mean")):
            row |= with_interval(name, table.ratio(BASELINE, result.name, metric, "mean", table.lengths))
        row |= _cost(result)
        why = {reason for record in result.records for reason in record.telemetry.taint_reasons}
        row["remarks"] = _remarks(row, why) if result.shows_latency else ""
        row |= {"source_lines": lines.get(result.name, pd.NA), "equivalence": result.equivalence}
        row |= summary_doubts(by_length, result.name)
        rows.append(row)
    return pd.DataFrame(rows)


def _remarks(row: Mapping[str, Any], taint_reasons: Collection[str]) -> str:
    """What was not as it should be in many requests: those left out, and those at the GPU's power limit."""
    found = []
    if row["n_tainted"]:
        all_requests = row["n_tainted"] + row["n_requests"]
        found.append(f"{row['n_tainted']:,} of {all_requests:,} requests tainted ({', '.join(sorted(taint_reasons))})")
    if row["power_cap_share"] >= POWER_LIMITED:
        share, clock_mhz = row["power_cap_share"], row["sm_clock_mhz_median"]
        found.append(f"at the GPU's power limit in {share:.0%} of readings (SM clock {clock_mhz:.0f} MHz)")
    return "; ".join(found)


def _cost(result: ApproachResult) -> Row:
    """Means over the processes that ran, with their intervals; NaN where nothing was measured."""
    ran = result.records if result.shows_latency else []
    row: Row = {}
    for name in ("device_over_idle", "device_allocated", "device_reserved", "host_peak"):
        row |= _over_processes(f"{name}_gib", [getattr(record.memory, f"{name}_bytes") for record in ran], GIB)
    row |= _over_processes("ready_s", [record.ready_s for record in ran])
    row |= _over_processes("cold_ttft_ms", [record.cold_ttft_ms for record in ran])
    for name in ("power_cap_share", "sm_clock_mhz_median"):
        row[name] = pd.Series([getattr(record.telemetry, name) for record in ran], dtype=np.float64).mean()
    return row | _over_processes("energy_j_per_token", [record.telemetry.energy_j_per_token for record in ran])


def _over_processes(name: str, values: Sequence[float | None], divisor: float = 1.0) -> Row:
    """The geometric mean of the values that were recorded, with its t interval; of one that is zero the plain mean."""
    known = np.array([value for value in values if value is not None], np.float64) / divisor
    if not len(known):
        return with_interval(name, NOTHING)
    with np.errstate(divide="ignore"):
        estimate = t_interval(np.log(known))
    return with_interval(name, estimate if (known > 0).all() else estimate._replace(value=known.mean()))
