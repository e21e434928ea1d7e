"""The columns of every table that analysis makes, checked when a table is written and when it is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from firsttoken import csv_tables
from firsttoken.analysis.statistics import STATISTICS, Estimate
from firsttoken.csv_tables import Column, Columns, count, each, maybe_count, number, text

METRICS = ("ttft", "itl_token_gap", "itl_request_mean")
STATUSES = ("measured", "emulated", "approximate", "unavailable", "failed")
VERDICTS_EQUIVALENCE = ("equal", "equal within tolerance", "approximate", "different", "not checked")
VERDICTS_READING = ("reproduced", "refuted", "inconclusive", "not testable here")
VERDICTS_CLAIM = (*VERDICTS_READING, "depends on the reading", "not shown here")
VERDICTS_SOURCE = ("follows from its source", "contradicts its own source", "its source gives no figure")
VERDICTS_COMPARE = ("faster", "slower", "no difference shown", "side by side", "not comparable")
UNITS = {"_ms": "ms", "_us": "µs", "_s": "s", "_gib": "GiB", "_percent": "%"}  # at the end of a column's name
Row = dict[str, object]
ERRORS = ("kl_mean", "rms_error", "top1_agreement")  # of the table equivalence, shown beside the latency
FLOORS = ("floor_ttft_ms", "floor_itl_ms", "ttft_share_of_floor", "itl_share_of_floor", "library_ttft_ms")


def split_unit(name: str) -> tuple[str, str]:
    """`ttft_mean_ms` -> `ttft_mean`, `_ms`; the latter is "" for a column without unit."""
    unit = next((unit for unit in UNITS if name.endswith(unit)), "")
    return name.removesuffix(unit), unit


def bounds_of(name: str) -> tuple[str, str]:
    """The columns with the interval of column `name`; its unit stays at the end."""
    stem, unit = split_unit(name)
    return f"{stem}_low{unit}", f"{stem}_high{unit}"


def _with_interval(*names: str) -> Columns:
    """`ttft_mean_ms` -> ttft_mean_ms, ttft_mean_low_ms, ttft_mean_high_ms; a name without unit gets plain suffixes."""
    columns: Columns = {}
    for name in names:
        columns |= each(number(0), name, *bounds_of(name))
    return columns


def _noted(name: str) -> Columns:
    """A value with its interval, and a note why one of them is missing."""
    return _with_interval(f"{name}_ms") | {f"{name}_note": text()}


def _latency_by_length() -> Columns:
    columns = each(text(), "approach", "title") | {"status": text(*STATUSES)}
    columns |= each(count(), "prompt_length", "n_processes", "n_requests", "n_gaps", "n_tainted")
    for stem in (f"{metric}_{statistic}" for metric in METRICS for statistic in STATISTICS):
        columns |= _noted(stem)
    columns |= each(text(), *(f"{metric}_doubts" for metric in METRICS))  # signs that the intervals may not hold
    return columns | each(number(0), *FLOORS) | _with_interval("speedup_ttft")


def _summary() -> Columns:
    columns = each(text(), "approach", "title") | {"status": text(*STATUSES), "reason": text()}
    columns |= {"control": Column("bool"), "processes": count()}
    for name in ("ttft_mean", "ttft_p99", "itl_request_mean", "itl_p99"):
        columns |= _noted(name)
    columns |= each(number(0), *FLOORS) | _with_interval("speedup_ttft", "speedup_itl")
    memory = ("device_over_idle_gib", "device_allocated_gib", "device_reserved_gib", "host_peak_gib")
    columns |= _with_interval(*memory) | {"source_lines": maybe_count()}
    columns |= _with_interval("ready_s", "cold_ttft_ms") | each(count(), "n_processes", "n_requests", "n_tainted")
    columns |= _with_interval("energy_j_per_token") | each(number(0), "power_cap_share", "sm_clock_mhz_median")
    return (
        columns
        | {"equivalence": text(*VERDICTS_EQUIVALENCE)}
        | each(number(0), *ERRORS)
        | each(text(), "remarks", "doubts", "p99_doubts")
    )


def _combined() -> Columns:
    columns = {"approach": text(), "status": text()}  # of all hosts, where they differ
    columns |= each(count(), "prompt_length", "n_hosts")  # prompt_length 0: mean over prompt lengths
    for name in ("ttft_mean_ms", "itl_request_mean_ms", "speedup_ttft", "speedup_itl"):
        columns |= _with_interval(name) | {f"{split_unit(name)[0]}_spread_percent": number(0)}
    return columns | {"reason": text()}


TABLES: dict[str, Columns] = {
    "latency_by_length": _latency_by_length(),
    "summary": _summary(),
    # One number a process: what every interval, claim, effect and comparison is computed from. Those of a quantile are
    # pseudo-values, whose geometric mean over processes is the quantile of all requests together.
    "process_statistics": {
        "approach": text(),
        "repeat": count(),
        "prompt_length": count(),  # 0: not by length
        "metric": text(*METRICS, "memory"),
        "statistic": text(*STATISTICS, "device_over_idle", "device_reserved", "host_peak"),
        "value": number(0),  # ms; memory in GiB
        "n": count(),
    },
    "instrument": {
        "approach": text(),
        "status": text(*STATUSES),
        **each(count(), "n_processes", "n_tokens"),
        **_with_interval("first_token_us", "token_gap_us", "token_gap_p99_us"),
        **each(number(), "over_one_process_first_token_us", "over_one_process_gap_us"),
    },
    # A row a position of the reference's texts, from which the verdicts of `equivalence` are made.
    "equality_positions": {
        "approach": text(),
        "layers": count(),  # of the model: the bounds depend on its depth
        **each(count(), "prompt_length", "prompt_index", "position"),
        "reference_gap": number(0),  # nats between the reference's two best tokens
        "requests": count(),  # of all processes, whose text up to here is the reference's
        "differing": count(),  # of those, how many chose another token here
        "chosen_gap": number(0),  # nats from the reference's best token to the worst of those; inf: not among its best
        "unstable": count(),  # requests that differ from others with the same text, which is not the reference's
        "forced_gap": number(0),  # as chosen_gap, for the token that the teacher-forced logits favour
        "spread": number(0),  # standard deviation of the reference's log-probabilities over the vocabulary
        "rms_error": number(0),  # of the log-probabilities, nats
        "kl": number(0),  # nats
        "slope": number(),  # of the log-probabilities on the reference's
        "note": text(),
    },
    "equivalence": {
        "approach": text(),
        "verdict": text(*VERDICTS_EQUIVALENCE),
        "prompts": count(),
        "positions": count(),  # at which tokens were compared, each counted once
        "decided_share": number(0),  # of them, where the reference's two best tokens are further apart than gap_bound
        "token_check": text("", "strong", "weak", "none"),
        "differing_positions": count(),
        "largest_gap": number(0),  # nats; of a token that was chosen in the place of the reference's
        "gap_bound": number(0),  # at that position, or the median of all
        "logit_positions": count(),
        # the largest distance, and what it is held to
        **each(number(0), "rms_error", "rms_bound", "kl_error", "kl_bound", "slope_error", "slope_bound"),
        **each(number(0), "kl_mean", "kl_max"),  # nats
        "top1_agreement": number(0),  # share of positions where the logits favour the reference's token
        **each(number(), "slope_min", "slope_max"),
        "reason": text(),
    },
    "claims": {  # a row a reading; the verdict is that of the claim, from all its readings
        "claim": text(),
        "verdict": text(*VERDICTS_CLAIM),
        "published_value": number(),
        **each(text(), "claimed_for", "other_conditions", "reading"),
        "reading_verdict": text(*VERDICTS_READING),
        **each(number(), "measured_value", "measured_value_low", "measured_value_high"),
        "verdict_from_source": text(*VERDICTS_SOURCE),
        **each(text(), "sentence", "doubts", "publication", "source", "url", "id"),
    },
    "effects": {
        **each(text(), "effect", "what"),
        "metric": text(*METRICS),
        "prompt_length": count(),  # 0: mean over prompt lengths
        "status": text("measured", "not identifiable"),
        **_with_interval("ratio"),
        **each(number(), "difference_ms", "difference_low_ms", "difference_high_ms"),
        "n_repeats": count(),
        **each(text(), "method", "reason"),
    },
    "dynamic_work": {
        "approach": text(),
        "status": text(*STATUSES),
        "dynamic_operations": text(),
        "token": text("first", "next"),
        "prompt_length": count(),  # 0: mean over prompt lengths
        **each(count(), "n_processes", "n_tokens"),
        **_with_interval("mean_us", "median_us"),  # of the dynamic operations of a token
        "latency_ms": number(0),  # mean, of the same tokens
        **_with_interval("share"),  # of the latency
        "native_twin": text(),  # differs in its dynamic operations alone
        **each(number(), "saved_us", "saved_low_us", "saved_high_us"),  # the twin's mean_us minus this one's
        "reason": text(),
    },
    "comparison": {
        "approach": text(),
        "status": text(),  # of both studies, where they differ
        "prompt_length": count(),
        "metric": text(*METRICS),
        "statistic": text(*STATISTICS),
        **each(number(0), "a_ms", "b_ms"),
        **_with_interval("ratio"),
        **each(count(), "n_a", "n_b"),
        "verdict": text(*VERDICTS_COMPARE),
        "reason": text(),
    },
    # A row an approach, prompt length and host; intervals over the processes of the host.
    "hosts": {
        "approach": text(),
        "status": text(*STATUSES),
        "prompt_length": count(),  # 0: mean over prompt lengths
        **each(text(), "study", "host"),
        "n_processes": count(),
        **_with_interval("ttft_mean_ms", "ttft_p99_ms", "itl_request_mean_ms", "speedup_ttft", "speedup_itl"),
    },
    "combined": _combined(),  # over hosts
    "checklist": {"rule": count(), "asks": text(), "met": text("yes", "partly", "no"), "evidence": text()},
}


def with_interval(name: str, estimate: Estimate) -> Row:
    """The three columns of an estimate: ttft_mean_ms, ttft_mean_low_ms, ttft_mean_high_ms."""
    return dict(zip((name, *bounds_of(name)), estimate[:3], strict=True))


def write_table(frame: pd.DataFrame, name: str, path: Path | str) -> None:
    """Put the columns in order, validate, write as CSV. Raises ValueError that names file and column."""
    csv_tables.write_table(frame, name, TABLES[name], path)


def read_table(path: Path | str, name: str) -> pd.DataFrame:
    """Read and validate a table; empty text is "", an empty number NaN."""
    return csv_tables.read_table(path, name, TABLES[name])


def read_untyped(path: Path | str) -> pd.DataFrame:
    """Read a table without its declared columns; a gap is NaN. pandas' defaults take `null`, an approach, for a gap."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def plain_rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows for JSON: a gap is None, numbers are Python's own."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]
