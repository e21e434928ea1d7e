"""Two finished studies against each other: did a change of code, library or setting make an approach faster or slower?

The two ran at different times, so that their processes are independent samples: Welch's interval on logarithms. Studies
of another model, GPU, driver or workload are shown side by side and not judged, since the difference would have another
cause. What fails a gate must not be one unlucky comparison of sixty: a regression needs an interval that is corrected
for the looks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from firsttoken import files
from firsttoken.analysis.doubts import NAMES
from firsttoken.analysis.finished_study import read_study
from firsttoken.analysis.processes import ProcessTable, independent_ratio
from firsttoken.analysis.schemas import TABLES, Row, plain_rows, with_interval, write_table
from firsttoken.analysis.statistics import CONFIDENCE, NOTHING
from firsttoken.plan import Record
from firsttoken.pooled_runs import RAN

METHOD = (
    "Ratio b / a, Welch's interval on logarithms of per-process values. Faster and slower: 95 % for each comparison. "
    "Regressions: 95 % for all comparisons together (Bonferroni), so that many looks give no false alarm"
)
_MEASURES = (("ttft", "mean"), ("ttft", "p99"), ("itl_request_mean", "mean"), ("itl_token_gap", "p99"))


class Comparison(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`results/compare/{a}_vs_{b}/comparison.json`: the verdict in one place, for a page and for the gate."""

    a: str
    b: str
    threshold: float
    verdict: Literal["regression", "no regression", "side by side", "not comparable"]
    reasons: tuple[str, ...]  # why nothing is judged
    regressions: tuple[str, ...]  # one line each
    comparisons: int
    faster: int
    slower: int
    method: str
    cells: tuple[dict[str, Any], ...] = ()  # the rows of comparison.csv


def compare_studies(
    a: Path | str, b: Path | str, bounds: Path | str, threshold: float, out_csv: Path | str, out_json: Path | str
) -> None:
    """Compare two study folders, shipped ones included; a slowdown of b beyond `threshold` (a share), by its interval,
    is a regression. `bounds` is config/equality_bounds.csv."""
    first, second = (_read_side(Path(folder), bounds) for folder in (a, b))
    pairs = [(what, fact, second.facts[what]) for what, fact in first.facts.items()]
    reasons = [f"other {what}: {fact} and {other}" for what, fact, other in pairs if fact != other]
    table = pd.DataFrame(_rows(first, second), columns=list(TABLES["comparison"]))
    missing = table["verdict"] == "not comparable"
    table = table.iloc[np.argsort(missing, kind="stable")]  # below what both studies have
    if reasons:
        table["verdict"] = table["verdict"].where(table["verdict"] == "not comparable", "side by side")
    write_table(table, "comparison", out_csv)
    comparisons = int(table["ratio_low"].notna().sum())
    verdict: Literal["side by side", "not comparable"] = "side by side"
    if not comparisons:
        verdict = "not comparable"
        reasons.append("nothing has an interval in both: no approach and prompt length in common, or too few processes")
    slower = _regressions(first.processes, second.processes, table, comparisons, threshold)
    regressions = [] if reasons else [*_lost(first, second), *slower]
    counts = table["verdict"].value_counts()
    found = Comparison(
        a=Path(a).name,
        b=Path(b).name,
        threshold=threshold,
        verdict=verdict if reasons else "regression" if regressions else "no regression",
        reasons=tuple(reasons),
        regressions=tuple(regressions),
        comparisons=comparisons,
        faster=int(counts.get("faster", 0)),
        slower=int(counts.get("slower", 0)),
        method=METHOD,
        cells=tuple(plain_rows(table)),
    )
    files.write_json(out_json, found)


class Side(NamedTuple):
    """One of the two studies. `facts` must agree for the two to be compared."""

    facts: dict[str, str]
    statuses: dict[str, str]
    processes: ProcessTable


def _read_side(folder: Path, bounds: Path | str) -> Side:
    study = read_study(folder, bounds)
    environment, workload = study.environment, study.config.get("workload", {})
    models = sorted({record.model_hash for record in study.records if record.model_hash})
    dtypes = sorted({record.dtype for record in study.records if record.status in RAN})
    facts = {
        "model": ", ".join(models) or "unknown",
        "dtype": ", ".join(dtypes) or "unknown",
        "device": environment.device,
        "GPU": environment.gpu.name if environment.gpu else "none",
        "driver": environment.driver or "none",
        "processor": "any" if environment.gpu else environment.cpu,  # the model runs on it only where there is no GPU
        "threads": "any" if environment.gpu else str(environment.threads),
        "pause_ms": f"{workload.get('pause_ms', 0):g}",
        "new_tokens": str(workload.get("new_tokens", "unknown")),
        "sampling": msgspec.json.encode(workload.get("sampling", "greedy")).decode(),
    }
    return Side(facts, {result.name: result.status for result in study.results}, study.processes)


def _rows(a: Side, b: Side) -> list[Row]:
    """A row a statistic of an approach at a prompt length; its status is that in both, or one and the other."""
    rows = []
    for approach in dict.fromkeys([*a.statuses, *b.statuses]):
        status = " and ".join(dict.fromkeys(side.statuses[approach] for side in (a, b) if approach in side.statuses))
        for length in sorted({*a.processes.lengths, *b.processes.lengths}):
            why = _unpaired(approach, length, a, b)
            for metric, statistic in _MEASURES:
                row: Row = {"approach": approach, "status": status, "prompt_length": length}
                row |= {"metric": metric, "statistic": statistic}
                rows.append(row | _compared(a.processes, b.processes, (approach, metric, statistic, [length]), why))
    return rows


def _unpaired(approach: str, length: int, a: Side, b: Side) -> str:
    """Why one approach at one length cannot be compared, or ""."""
    for name, side in (("a", a), ("b", b)):
        if approach not in side.statuses:
            return f"{name} has no {approach}"
        if side.statuses[approach] not in RAN:
            return f"{approach} is {side.statuses[approach]} in {name}"
        if length not in side.processes.lengths:
            return f"{name} has no prompt length {length}"
    if a.statuses[approach] != b.statuses[approach]:
        return f"{approach} is {a.statuses[approach]} in a and {b.statuses[approach]} in b"
    return ""


def _compared(first: ProcessTable, second: ProcessTable, cell: tuple[str, str, str, list[int]], why: str) -> Row:
    """The figures of one cell in both studies; `why` it is not compared, or ""."""
    ratio = NOTHING if why else independent_ratio(second, first, *cell)
    a, b = first.logs(*cell), second.logs(*cell)
    if why:
        verdict = "not comparable"
    elif np.isnan(ratio.low):
        verdict, why = "no difference shown", ratio.note or "no samples"
    else:
        verdict = "faster" if ratio.high < 1 else "slower" if ratio.low > 1 else "no difference shown"
    return {
        "a_ms": float(np.exp(a.mean())) if len(a) else np.nan,
        "b_ms": float(np.exp(b.mean())) if len(b) else np.nan,
        **with_interval("ratio", ratio),
        "n_a": len(a),
        "n_b": len(b),
        "verdict": verdict,
        "reason": why,
    }


def _lost(a: Side, b: Side) -> list[str]:
    """Approaches that had latencies in a and have none, or others, in b: no number would show that they got worse."""
    found, lengths = [], sorted({*a.processes.lengths} & {*b.processes.lengths})
    for name in [name for name, status in a.statuses.items() if status in RAN and name in b.statuses]:
        if b.statuses[name] not in RAN or a.statuses[name] == "measured" != b.statuses[name]:
            found.append(f"{name} was {a.statuses[name]} and is {b.statuses[name]}")
            continue
        had, has = (side.processes.logs(name, "ttft", "mean", lengths) for side in (a, b))
        if len(had) and not len(has):
            found.append(f"{name} had a process with untainted requests at every prompt length and has none")
    return found


def _regressions(
    a: ProcessTable, b: ProcessTable, table: pd.DataFrame, comparisons: int, threshold: float
) -> list[str]:
    """Rows whose whole interval, at a confidence that holds for all comparisons together, is beyond the threshold."""
    found, confidence = [], 1 - (1 - CONFIDENCE) / max(comparisons, 1)
    cells = table.loc[table["ratio_low"].notna(), ["approach", "metric", "statistic", "prompt_length"]]
    for approach, metric, statistic, length in cells.itertuples(index=False):
        ratio = independent_ratio(b, a, approach, metric, statistic, [length], confidence)
        if ratio.low > 1 + threshold:
            what = f"{approach} {NAMES[metric]} {statistic} at {length} tokens"
            interval = f"{ratio.low:.3f} to {ratio.high:.3f}, corrected for {comparisons} comparisons"
            found.append(f"{what} takes {ratio.value:.3f} times as long ({interval})")
    return found


def in_words(found: Comparison) -> str:
    """The verdict for the head of a page."""
    if found.verdict == "not comparable":
        return f"Not comparable: {'; '.join(found.reasons)}."
    if found.verdict == "side by side":
        return (
            f"Side by side: {'; '.join(found.reasons)} ({found.a} and {found.b}). The ratios are those of two set-ups "
            "as a whole. They do not show which of these differences, or which change of code, library or setting, "
            "makes one faster, and no regression is judged."
        )
    n = len(found.regressions)
    shown = "; ".join(found.regressions[:2]) + (f" and {n - 2} more" if n > 2 else "")
    beyond = f"{n} regression{'' if n == 1 else 's'} beyond {found.threshold:.0%}: {shown}"
    none = f"No regression beyond {found.threshold:.0%}"
    counts = f"Of {found.comparisons} comparisons {found.faster} are faster, {found.slower} slower in {found.b}"
    return f"{beyond if found.regressions else none}. {counts}. {found.method}."
