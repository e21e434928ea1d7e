"""The columns of every table of a study, checked when a table is written and when it is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from firsttoken import files
from firsttoken.analysis.statistics import STATISTICS

METRICS = ("ttft", "itl_token_gap", "itl_request_mean")
STATUSES = ("measured", "emulated", "unavailable", "failed")
VERDICTS_EQUIVALENCE = ("equal", "equal within tolerance", "different", "not checked")
VERDICTS_CLAIM = ("reproduced", "refuted", "inconclusive", "not testable here")
VERDICTS_SOURCE = ("follows from its source", "contradicts its own source", "its source gives no figure")
VERDICTS_COMPARE = ("faster", "slower", "no difference shown", "not comparable")
FLOORS = ("floor_ttft_ms", "floor_itl_ms", "ttft_share_of_floor", "itl_share_of_floor")

Columns = dict[str, pa.Column]


def _text(*allowed: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(list(allowed)) if allowed else None, coerce=True)


def _number(low: float | None = None) -> pa.Column:
    return pa.Column(float, pa.Check.ge(low) if low is not None else None, nullable=True, coerce=True)


def _count() -> pa.Column:
    return pa.Column(int, pa.Check.ge(0), coerce=True)


def _maybe_count() -> pa.Column:
    return pa.Column(pd.Int64Dtype(), nullable=True, coerce=True)


def _flag() -> pa.Column:
    return pa.Column(bool, coerce=True)


def _with_interval(name: str) -> Columns:
    """`ttft_mean_ms` -> ttft_mean_ms, ttft_mean_low_ms, ttft_mean_high_ms; a name without unit gets plain suffixes."""
    stem, unit = (name.removesuffix("_ms"), "_ms") if name.endswith("_ms") else (name, "")
    return {name: _number(0), f"{stem}_low{unit}": _number(0), f"{stem}_high{unit}": _number(0)}


def _statistic(metric: str, statistic: str) -> Columns:
    stem = f"{metric}_{statistic}"
    return {
        **_with_interval(f"{stem}_ms"),
        f"{stem}_within_ms": _number(0),  # of the pooled samples, with the interval that holds within these processes
        f"{stem}_within_low_ms": _number(0),
        f"{stem}_within_high_ms": _number(0),
        f"{stem}_note": _text(),
    }


def _latency_by_length() -> Columns:
    columns: Columns = {"approach": _text(), "title": _text(), "status": _text(*STATUSES), "prompt_length": _count()}
    columns |= {name: _count() for name in ("n_processes", "n_requests", "n_gaps", "n_tainted")}
    for metric in METRICS:
        for statistic in STATISTICS:
            columns |= _statistic(metric, statistic)
    for name in FLOORS:
        columns[name] = _number(0)
    return columns | _with_interval("speedup_ttft")


def _summary() -> Columns:
    columns: Columns = {"approach": _text(), "title": _text(), "status": _text(*STATUSES), "reason": _text()}
    columns |= {"control": _flag(), "processes": _count()}
    for name in ("ttft_mean_ms", "ttft_p99_ms", "itl_request_mean_ms", "itl_p99_ms"):
        columns |= _with_interval(name) | {f"{name.removesuffix('_ms')}_note": _text()}
    for name in FLOORS:
        columns[name] = _number(0)
    columns |= _with_interval("speedup_ttft") | _with_interval("speedup_itl")
    for name in ("device_over_idle_gib", "device_allocated_gib", "device_reserved_gib", "host_peak_gib"):
        columns[name] = _number(0)
    columns |= {"source_lines": _maybe_count(), "ready_s": _number(0), "cold_ttft_ms": _number(0)}
    columns |= {name: _count() for name in ("n_processes", "n_requests", "n_tainted")} | {"taint_reasons": _text()}
    return columns | {"energy_j_per_token": _number(0), "equivalence": _text(*VERDICTS_EQUIVALENCE)}


TABLES: dict[str, Columns] = {
    "latency_by_length": _latency_by_length(),
    "summary": _summary(),
    # One number a process: what every interval, claim, effect and comparison is computed from.
    "process_statistics": {
        "approach": _text(),
        "repeat": _count(),
        "prompt_length": _count(),  # 0: not by length
        "metric": _text(*METRICS, "memory"),
        "statistic": _text(*STATISTICS, "device_over_idle", "device_reserved", "host_peak"),
        "value": _number(0),  # ms; memory in GiB
        "n": _count(),
    },
    "instrument": {
        "approach": _text(),
        "status": _text(*STATUSES),
        "n_processes": _count(),
        "n_tokens": _count(),
        "first_token_us": _number(0),
        "token_gap_us": _number(0),
        "token_gap_p99_us": _number(0),
        "over_one_process_first_token_us": _number(),
        "over_one_process_gap_us": _number(),
    },
    # A row a position of the reference's texts: the evidence that the verdicts of `equivalence` are made from.
    "equality_positions": {
        "approach": _text(),
        "prompt_length": _count(),
        "prompt_index": _count(),
        "position": _count(),
        "reference_gap": _number(0),  # nats between the reference's two best tokens
        "requests": _count(),  # of all processes, whose text up to here is the reference's
        "differing": _count(),  # of those, how many chose another token here
        "chosen_gap": _number(0),  # nats from the reference's best token to the worst of those; inf: not among its best
        "unstable": _count(),  # requests that differ from others with the same text, which is not the reference's
        "forced_gap": _number(0),  # as chosen_gap, for the token that the teacher-forced logits favour
        "spread": _number(0),  # standard deviation of the reference's log-probabilities over the vocabulary
        "rms_error": _number(0),  # of the log-probabilities, nats
        "kl": _number(0),  # nats
        "slope": _number(),  # of the log-probabilities on the reference's
        "note": _text(),
    },
    "equivalence": {
        "approach": _text(),
        "verdict": _text(*VERDICTS_EQUIVALENCE),
        "prompts": _count(),
        "positions": _count(),  # at which tokens were compared, each counted once
        "decided_share": _number(0),  # of them, where the reference's two best tokens are further apart than gap_bound
        "token_check": _text("", "strong", "weak", "none"),
        "differing_positions": _count(),
        "largest_gap": _number(0),  # nats; of a token that was chosen in the place of the reference's
        "gap_bound": _number(0),  # at that position, or the median of all
        "logit_positions": _count(),
        **{
            name: _number(0)
            for measure in ("rms", "kl", "slope")
            for name in (f"{measure}_error", f"{measure}_bound")  # the largest distance and what it is held to
        },
        "kl_max": _number(0),  # nats
        "slope_min": _number(),
        "slope_max": _number(),
        "reason": _text(),
    },
    "claims": {
        "id": _text(),
        "claim": _text(),
        "source": _text(),
        "published_value": _number(),
        "measured_value": _number(),
        "low": _number(),
        "high": _number(),
        "verdict": _text(*VERDICTS_CLAIM),
        "verdict_from_source": _text(*VERDICTS_SOURCE),
        "sentence": _text(),
    },
    "effects": {
        "effect": _text(),
        "what": _text(),
        "metric": _text(*METRICS),
        "prompt_length": _count(),  # 0: mean over prompt lengths
        "status": _text("measured", "not identifiable"),
        "ratio": _number(0),
        "ratio_low": _number(0),
        "ratio_high": _number(0),
        "difference_ms": _number(),
        "difference_low_ms": _number(),
        "difference_high_ms": _number(),
        "n_repeats": _count(),
        "method": _text(),
        "reason": _text(),
    },
    "comparison": {
        "approach": _text(),
        "status": _text(),  # of both studies, where they differ
        "prompt_length": _count(),
        "metric": _text(*METRICS),
        "statistic": _text(*STATISTICS),
        "a_ms": _number(0),
        "b_ms": _number(0),
        "ratio": _number(0),
        "ratio_low": _number(0),
        "ratio_high": _number(0),
        "n_a": _count(),
        "n_b": _count(),
        "verdict": _text(*VERDICTS_COMPARE),
        "reason": _text(),
    },
    "ipc": {
        "form": _text("one_process", "two_processes"),
        "clients": _count(),
        "metric": _text("first_token", "token_gap"),
        "n": _count(),
        "mean_us": _number(0),
        "median_us": _number(0),
        "p99_us": _number(0),
    },
    "pool_memory": {
        "mode": _text("rolling", "unbounded"),
        "step": _count(),
        "prompt_length": _count(),
        "device_used_bytes": _maybe_count(),
        "device_reserved_bytes": _maybe_count(),
        "device_allocated_bytes": _maybe_count(),
        "graph_bytes": _maybe_count(),
        "host_bytes": _count(),
        "captures": _count(),
        "evictions": _count(),
        "failed_captures": _count(),
    },
    "pool_misses": {
        "kind": _text("miss", "after_capture", "beforehand"),
        "prompt_length": _count(),
        "request": _count(),
        "ttft_ms": _number(0),
        "pool_hit": pa.Column(pd.BooleanDtype(), nullable=True, coerce=True),
    },
    "checklist": {"rule": _count(), "asks": _text(), "met": _text("yes", "partly", "no"), "evidence": _text()},
}


def schema(name: str) -> pa.DataFrameSchema:
    """The pandera schema of a table: exactly its columns, in their order."""
    return pa.DataFrameSchema(TABLES[name], strict=True, ordered=True, name=name)


def write_table(frame: pd.DataFrame, name: str, path: Path | str) -> None:
    """Put the columns in order, validate, write as CSV atomically. Raises ValueError that names file and column."""
    columns = list(TABLES[name])
    if frame.empty:
        frame = frame.reindex(columns=columns)
    elif set(frame.columns) == set(columns):
        frame = frame[columns]
    checked = _validate(frame, name, path)
    with files.atomic_path(path) as temporary:
        checked.to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: Path | str, name: str) -> pd.DataFrame:
    """Read and validate a table; empty text is "", an empty number NaN."""
    texts = {column: str for column, kind in TABLES[name].items() if _is_text(kind)}
    empty = {column: [""] for column in TABLES[name] if column not in texts}
    return _validate(pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty), name, path)


def _is_text(kind: pa.Column) -> bool:
    return "str" in str(kind.dtype)  # "str" or "string[...]", as pandas has it


def _validate(frame: pd.DataFrame, name: str, path: Path | str) -> pd.DataFrame:
    try:
        return schema(name).validate(frame)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise ValueError(f"{path}: not a valid {name} table: {' '.join(str(error).split())}") from error
