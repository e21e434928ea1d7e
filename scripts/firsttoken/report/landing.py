"""The text that opens the report: the answer first, then the question, the results, machine, model and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken.files import read_json, write_text
from firsttoken.plan import ModelManifest
from firsttoken.report import formatting as formatting
from firsttoken.results import Environment

HEADER = (
    "Approach",
    "Status",
    "TTFT, ms",
    "P99 TTFT, ms",
    "Next token, ms",
    "Floor's share",
    "Times as fast",
    "Memory, GiB",
    "Ready, s",
)
WIDTHS = "   :widths: 22 9 13 13 13 9 13 9 6"
SHOWN = ("measured", "emulated")


def write_landing(
    answer_txt: Path,
    summary_csv: Path,
    claims_csv: Path,
    environment_json: Path,
    manifest_json: Path,
    workload: Mapping[str, Any],
    dtype: str,
    out_rst: Path,
) -> None:
    """Write reStructuredText for `report/workflow.rst` to include; the verdict is the last paragraph of `answer_txt`.

    Emulated figures carry the word in the same row, and where nothing ran on a GPU a warning stands above everything.
    """
    environment = read_json(environment_json, Environment)
    manifest = read_json(manifest_json, ModelManifest)
    summary = pd.read_csv(summary_csv)
    rows = [{str(key): value for key, value in row.items()} for row in summary.to_dict("records")]
    parts = [
        _warning(rows, environment),
        ".. container:: answer\n\n   " + "\n\n   ".join(map(escape, formatting.verdict(answer_txt))),
        _list_table(rows),
        *_reasons(rows),
        _claims(pd.read_csv(claims_csv)),
        f"**Machine.** {escape(formatting.machine(environment))}",
        f"**Model.** {escape(formatting.model(manifest, dtype))}",
        f"**Method.** {escape(formatting.method(workload, int(workload['repeats'])))}",
    ]
    write_text(out_rst, "\n\n".join(part for part in parts if part) + "\n")


def escape(text: str) -> str:
    """Text that reStructuredText takes as it stands."""
    return "".join(f"\\{letter}" if letter in "\\*`_|<>" else letter for letter in text)


def _warning(rows: Sequence[Mapping[str, Any]], environment: Environment) -> str:
    emulated = [str(row["approach"]) for row in rows if row["status"] == "emulated"]
    if environment.device == "cuda" and not emulated:
        return ""
    said = "No GPU was used in this study. " if environment.device == "cpu" else ""
    if emulated:
        said += (
            f"Emulated: {', '.join(emulated)}, which means that each replay of a CUDA graph was replaced by the same "
            "step run eagerly. Those numbers exercise the pipeline; they say nothing about CUDA graphs."
        )
    return f".. container:: warning\n\n   {escape(said.strip())}"


def _list_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        ".. list-table:: Means over prompt lengths (95 % interval); the floor's share of TTFT and of the next token",
        "   :header-rows: 1",
        WIDTHS,
        "",
    ]
    cells = [list(HEADER), *([text or formatting.NO_VALUE for text in _row(row)] for row in rows)]
    for row_cells in cells:
        lines += [f"   {'*' if place == 0 else ' '} - {text}" for place, text in enumerate(row_cells)]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> list[str]:
    status = str(row["status"])
    what = f"**{escape(str(row['approach']))}** {escape(str(row['title']))}"
    if status not in SHOWN:
        return [what, status, *[formatting.NO_VALUE] * (len(HEADER) - 2)]
    latencies = [_latency(row, column) for column in ("ttft_mean", "ttft_p99", "itl_request_mean")]
    on_device = pd.notna(row["device_over_idle_gib"])
    memory = row["device_over_idle_gib"] if on_device else row["host_peak_gib"]
    return [
        what,
        status,
        *latencies,
        f"{formatting.percent(row['ttft_share_of_floor'])}, {formatting.percent(row['itl_share_of_floor'])}",
        formatting.with_interval(row, "speedup_ttft"),
        f"{formatting.number(memory)}{'' if on_device else ' (host)'}",
        formatting.number(row["ready_s"]),
    ]


def _latency(row: Mapping[str, Any], column: str) -> str:
    """The value with its interval; where there is none, why: too few samples for a P99, say."""
    note = row.get(f"{column}_note")
    value = formatting.with_interval(row, column, "_ms")
    return f"{value} ({note})" if value == formatting.NO_VALUE and isinstance(note, str) and note else value


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for every approach that has no figures: its reason, which is too long for the table."""
    without = [row for row in rows if row["status"] not in SHOWN and isinstance(row.get("reason"), str)]
    return [f"**{escape(str(row['approach']))}** {row['status']}: {escape(str(row['reason']))}" for row in without]


def _claims(claims: pd.DataFrame) -> str:
    if claims.empty:
        return ""
    counts = claims["verdict"].value_counts()
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    broken = int((claims["verdict_from_source"] == "contradicts its own source").sum())
    several = (
        "contradict the figures of their own source" if broken > 1 else "contradicts the figures of its own source"
    )
    source = f" {broken} {several}." if broken else ""
    return f"**Published claims.** Of {len(claims)} claims put to the test here: {escape(verdicts)}.{source}"
