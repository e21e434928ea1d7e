"""What graphs, JIT, late reading and the second process each do, from controls that differ in one thing at a time.

Graphs x JIT is a 2 x 2 in one process (eager_loop, jit_only, cuda_graph_1p, jit_cuda_1p), whose four cells read each
token before the next step is queued (`ahead` 0 in their run records). jit_cuda_1p_ahead reads late, as jit_cuda does:
against jit_cuda_1p it shows what that saves, and jit_cuda against it what the second process costs.
An effect is a contrast of the logarithms within each repeat, in which all approaches ran next to each other, and its
interval Student's t over repeats (a randomised block design: Box, Hunter and Hunter 2005, chapters 4 and 5). As a
ratio, under 1 is faster; an interaction under 1 means that the two together save more than their product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from firsttoken.analysis.processes import ProcessTable, paired
from firsttoken.analysis.schemas import Row, with_interval, write_table
from firsttoken.analysis.statistics import NOTHING, difference_interval, mean_over_lengths, t_interval
from firsttoken.analysis.study_tables import StudyTables
from firsttoken.pooled_runs import RAN

METHOD = "contrast of log means within repeats, Student's t over repeats"


@dataclass(frozen=True)
class Contrast:
    """Weights on the logarithms of approaches; those of a ratio sum to 0. `reads` is how they must read their tokens,
    so that they differ in nothing else: all at once, all equally late, or the first late and the second at once."""

    name: str
    what: str
    weights: dict[str, float]
    reads: Literal["at once", "alike", "late against at once"] = "at once"


CONTRASTS = (
    Contrast("graphs_without_jit", "graphs, native dynamic work", {"cuda_graph_1p": 1, "eager_loop": -1}),
    Contrast("graphs_with_jit", "graphs, compiled dynamic work", {"jit_cuda_1p": 1, "jit_only": -1}),
    Contrast("jit_without_graphs", "JIT, eager forward pass", {"jit_only": 1, "eager_loop": -1}),
    Contrast("jit_with_graphs", "JIT, replayed forward pass", {"jit_cuda_1p": 1, "cuda_graph_1p": -1}),
    Contrast(
        "graphs",
        "main effect of graphs",
        {"cuda_graph_1p": 0.5, "jit_cuda_1p": 0.5, "eager_loop": -0.5, "jit_only": -0.5},
    ),
    Contrast(
        "jit", "main effect of JIT", {"jit_only": 0.5, "jit_cuda_1p": 0.5, "eager_loop": -0.5, "cuda_graph_1p": -0.5}
    ),
    Contrast(
        "interaction",
        "graphs with JIT over graphs without it",
        {"jit_cuda_1p": 1, "jit_only": -1, "cuda_graph_1p": -1, "eager_loop": 1},
    ),
    Contrast(
        "reading_ahead",
        "tokens read one step late",
        {"jit_cuda_1p_ahead": 1, "jit_cuda_1p": -1},
        reads="late against at once",
    ),
    Contrast("second_process", "price of the second process", {"jit_cuda": 1, "jit_cuda_1p_ahead": -1}, reads="alike"),
)


def estimate_effects(study: StudyTables, out_csv: Path | str) -> None:
    """Write effects.csv: a row an effect, metric and prompt length (0: the mean over them)."""
    statuses = dict(zip(study.summary["approach"].astype(str), study.summary["status"].astype(str), strict=True))
    ahead = {record.approach: record.ahead for record in study.records if record.status in RAN}
    processes = study.processes
    rows = []
    for contrast in CONTRASTS:
        found = {name: statuses.get(name, "not in this study") for name in contrast.weights}
        lacking = "; ".join(f"{name} is {status}" for name, status in found.items() if status != "measured")
        missing = lacking or _confounded(contrast, ahead)
        for metric in ("ttft", "itl_request_mean"):
            for length in [0, *processes.lengths]:
                lengths = processes.lengths if length == 0 else [length]
                row: Row = {"effect": contrast.name, "what": contrast.what, "metric": metric, "prompt_length": length}
                rows.append(row | _estimate(contrast, processes, metric, lengths, missing))
    write_table(pd.DataFrame(rows), "effects", out_csv)


def _confounded(contrast: Contrast, ahead: Mapping[str, int | None]) -> str:
    """Why the contrast would also hold the effect of reading tokens late, or "". `ahead` is by approach."""
    steps = {name: ahead.get(name) for name in contrast.weights}
    if unknown := [name for name, late in steps.items() if late is None]:
        return f"not recorded how many steps late {' and '.join(unknown)} read each token"
    wrong = {
        "at once": any(steps.values()),
        "alike": len(set(steps.values())) > 1,
        "late against at once": [bool(late) for late in steps.values()] != [True, False],
    }[contrast.reads]
    found = ", ".join(f"{name} {late}" for name, late in steps.items())
    return f"steps by which tokens are read late: {found}; this contrast needs {contrast.reads}" if wrong else ""


def _estimate(contrast: Contrast, processes: ProcessTable, metric: str, lengths: Sequence[int], missing: str) -> Row:
    several = paired([processes.values(name, metric, "mean", lengths) for name in contrast.weights])
    if not missing and not len(several[0]):
        missing = "no repeat in which all of them have samples"
    ratio = difference = NOTHING._replace(note=missing)
    if not missing:
        logs = ms = np.zeros(1)
        for weight, values in zip(contrast.weights.values(), several, strict=True):
            logs = logs + weight * mean_over_lengths(values)
            ms = ms + weight * values.mean(axis=1)
        ratio, difference = t_interval(logs), difference_interval(ms)
    return {
        "status": "not identifiable" if missing else "measured",
        **with_interval("ratio", ratio),
        **with_interval("difference_ms", difference),
        "n_repeats": ratio.n,
        "method": METHOD,
        "reason": ratio.note,
    }
