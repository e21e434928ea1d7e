"""The columns of every table that analysis makes, checked when a table is written and when it is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from firsttoken import csv_tables
from firsttoken.analysis.statistics import STATISTICS
from firsttoken.csv_tables import Columns, count, flag, maybe_count, number, text

METRICS = ("ttft", "itl_token_gap", "itl_request_mean")
STATUSES = ("measured", "emulated", "unavailable", "failed")
VERDICTS_EQUIVALENCE = ("equal", "equal within tolerance", "different", "not checked")
VERDICTS_CLAIM = ("reproduced", "refuted", "inconclusive", "not testable here")
VERDICTS_SOURCE = ("follows from its source", "contradicts its own source", "its source gives no figure")
VERDICTS_COMPARE = ("faster", "slower", "no difference shown", "not comparable")
FLOORS = ("floor_ttft_ms", "floor_itl_ms", "ttft_share_of_floor", "itl_share_of_floor")


def _with_interval(name: str) -> Columns:
    """`ttft_mean_ms` -> ttft_mean_ms, ttft_mean_low_ms, ttft_mean_high_ms; a name without unit gets plain suffixes."""
    stem, unit = (name.removesuffix("_ms"), "_ms") if name.endswith("_ms") else (name, "")
    return {name: number(0), f"{stem}_low{unit}": number(0), f"{stem}_high{unit}": number(0)}


def _statistic(metric: str, statistic: str) -> Columns:
    stem = f"{metric}_{statistic}"
    return {
        **_with_interval(f"{stem}_ms"),
        f"{stem}_within_ms": number(0),  # of the pooled samples, with the interval that holds within these processes
        f"{stem}_within_low_ms": number(0),
        f"{stem}_within_high_ms": number(0),
        f"{stem}_note": text(),
    }


def _latency_by_length() -> Columns:
    columns: Columns = {"approach": text(), "title": text(), "status": text(*STATUSES), "prompt_length": count()}
    columns |= {name: count() for name in ("n_processes", "n_requests", "n_gaps", "n_tainted")}
    for metric in METRICS:
        for statistic in STATISTICS:
            columns |= _statistic(metric, statistic)
    for name in FLOORS:
        columns[name] = number(0)
    return columns | _with_interval("speedup_ttft")


def _summary() -> Columns:
    columns: Columns = {"approach": text(), "title": text(), "status": text(*STATUSES), "reason": text()}
    columns |= {"control": flag(), "processes": count()}
    for name in ("ttft_mean_ms", "ttft_p99_ms", "itl_request_mean_ms", "itl_p99_ms"):
        columns |= _with_interval(name) | {f"{name.removesuffix('_ms')}_note": text()}
    for name in FLOORS:
        columns[name] = number(0)
    columns |= _with_interval("speedup_ttft") | _with_interval("speedup_itl")
    for name in ("device_over_idle_gib", "device_allocated_gib", "device_reserved_gib", "host_peak_gib"):
        columns[name] = number(0)
    columns |= {"source_lines": maybe_count(), "ready_s": number(0), "cold_ttft_ms": number(0)}
    columns |= {name: count() for name in ("n_processes", "n_requests", "n_tainted")} | {"taint_reasons": text()}
    return columns | {"energy_j_per_token": number(0), "equivalence": text(*VERDICTS_EQUIVALENCE)}


TABLES: dict[str, Columns] = {
    "latency_by_length": _latency_by_length(),
    "summary": _summary(),
    # One number a process: what every interval, claim, effect and comparison is computed from.
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
        "n_processes": count(),
        "n_tokens": count(),
        "first_token_us": number(0),
        "token_gap_us": number(0),
        "token_gap_p99_us": number(0),
        "over_one_process_first_token_us": number(),
        "over_one_process_gap_us": number(),
    },
    # A row a position of the reference's texts, from which the verdicts of `equivalence` are made.
    "equality_positions": {
        "approach": text(),
        "layers": count(),  # of the model: the bounds depend on its depth
        "prompt_length": count(),
        "prompt_index": count(),
        "position": count(),
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
        **{
            name: number(0)
            for measure in ("rms", "kl", "slope")
            for name in (f"{measure}_error", f"{measure}_bound")  # the largest distance and what it is held to
        },
        "kl_max": number(0),  # nats
        "slope_min": number(),
        "slope_max": number(),
        "reason": text(),
    },
    "claims": {
        "id": text(),
        "claim": text(),
        "source": text(),
        "published_value": number(),
        "measured_value": number(),
        "low": number(),
        "high": number(),
        "verdict": text(*VERDICTS_CLAIM),
        "verdict_from_source": text(*VERDICTS_SOURCE),
        "sentence": text(),
    },
    "effects": {
        "effect": text(),
        "what": text(),
        "metric": text(*METRICS),
        "prompt_length": count(),  # 0: mean over prompt lengths
        "status": text("measured", "not identifiable"),
        "ratio": number(0),
        "ratio_low": number(0),
        "ratio_high": number(0),
        "difference_ms": number(),
        "difference_low_ms": number(),
        "difference_high_ms": number(),
        "n_repeats": count(),
        "method": text(),
        "reason": text(),
    },
    "comparison": {
        "approach": text(),
        "status": text(),  # of both studies, where they differ
        "prompt_length": count(),
        "metric": text(*METRICS),
        "statistic": text(*STATISTICS),
        "a_ms": number(0),
        "b_ms": number(0),
        "ratio": number(0),
        "ratio_low": number(0),
        "ratio_high": number(0),
        "n_a": count(),
        "n_b": count(),
        "verdict": text(*VERDICTS_COMPARE),
        "reason": text(),
    },
    "checklist": {"rule": count(), "asks": text(), "met": text("yes", "partly", "no"), "evidence": text()},
}


def write_table(frame: pd.DataFrame, name: str, path: Path | str) -> None:
    """Put the columns in order, validate, write as CSV. Raises ValueError that names file and column."""
    csv_tables.write_table(frame, name, TABLES[name], path)


def read_table(path: Path | str, name: str) -> pd.DataFrame:
    """Read and validate a table; empty text is "", an empty number NaN."""
    return csv_tables.read_table(path, name, TABLES[name])
