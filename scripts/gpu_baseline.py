"""Is this GPU check slower than the committed one? `make gpu-check` compares with results/reference/gpu-check.

Compared are the median TTFT at each prompt length and the median time a token, by approach, on the same GPU model only.
Slower is what exceeds the baseline by more than half an interval: the wider of both studies' 95 % intervals, as a share
of its figure. With one process an approach the interval is the one within that process; another process, another hour
or another card can differ by more, so that a line here is a reason to measure again and no verdict.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firsttoken.files import read_json
from firsttoken.results import Environment

FIGURES = {"ttft_median": "TTFT", "itl_request_mean_median": "time a token"}

Row = Mapping[str, str]  # of latency_by_length.csv


@dataclass(frozen=True)
class Change:
    """One figure then and now; shares of the baseline's figure."""

    what: str
    baseline_ms: float
    found_ms: float
    half_interval: float

    @property
    def change(self) -> float:
        return self.found_ms / self.baseline_ms - 1

    @property
    def verdict(self) -> str:
        if self.change > self.half_interval:
            return "SLOWER"
        return "faster" if self.change < -self.half_interval else "same"

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.found_ms:.3f} ms, baseline {self.baseline_ms:.3f} ms "
            f"({self.change:+.1%}, half an interval is {self.half_interval:.1%}): {self.verdict}"
        )


def compare_with_baseline(study: Path, baseline: Path) -> list[str]:
    """The lines that `make gpu-check` prints; both are folders of studies."""
    gpus = [read_json(folder / "environment.json", Environment).gpu for folder in (study, baseline)]
    found, known = (gpu.name if gpu else "no GPU" for gpu in gpus)
    if found != known:
        return [f"baseline: {baseline} was measured on {known}, this is {found}: nothing is compared"]
    changes, missing = changes_between(read_rows(study), read_rows(baseline))
    slower = [change for change in changes if change.verdict == "SLOWER"]
    lines = [f"baseline: {change}" for change in changes]
    lines += [f"baseline: {what}: not measured here" for what in missing]
    return [*lines, f"baseline: {len(slower)} of {len(changes)} figures are slower than in {baseline}"]


def changes_between(found: Sequence[Row], baseline: Sequence[Row]) -> tuple[list[Change], list[str]]:
    """Every figure of the baseline that was measured again, and the names of those that were not."""
    rows = {(row["approach"], row["prompt_length"]): row for row in found}
    changes, missing = [], []
    for old in baseline:
        new = rows.get((old["approach"], old["prompt_length"]), {})
        for column, name in FIGURES.items():
            if not old[f"{column}_ms"]:
                continue
            what = f"{old['approach']}, {name} at {old['prompt_length']} prompt tokens"
            if not new.get(f"{column}_ms"):
                missing.append(what)
                continue
            half = max(half_interval(new, column), half_interval(old, column))
            changes.append(Change(what, float(old[f"{column}_ms"]), float(new[f"{column}_ms"]), half))
    return changes, missing


def half_interval(row: Row, column: str) -> float:
    """Half of the 95 % interval over the figure: over processes, or with too few of them within a process."""
    for kind in ("", "_within"):
        low, high = (row[f"{column}{kind}_{end}_ms"] for end in ("low", "high"))
        if low and high:
            return (float(high) - float(low)) / 2 / float(row[f"{column}_ms"])
    return 0.0


def read_rows(study: Path, table: str = "latency_by_length") -> list[dict[str, str]]:
    """The rows of a study's table, as text."""
    with (study / "tables" / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
