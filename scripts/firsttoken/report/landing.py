"""The text that opens the report: the answer first, then the results, machine, model and method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken.files import read_json, write_text
from firsttoken.plan import ModelManifest
from firsttoken.pooled_runs import read_records
from firsttoken.report import documents, formatting
from firsttoken.report.table_page import Row, read_rows
from firsttoken.results import Environment

COLUMNS = (  # heading, width
    ("Approach", 20),
    ("Status", 9),
    ("TTFT, ms", 12),
    ("% of floor", 6),
    ("P99 TTFT, ms", 12),
    ("Next token, ms", 12),
    ("% of floor", 6),
    ("Speedup", 12),
    ("Memory, GiB", 8),
    ("Ready, s", 6),
)


def write_landing(
    answer: Path,
    summary: Path,
    claims: Path,
    records: Path,
    environment: Path,
    manifest: Path,
    workload: Mapping[str, Any],
    dtype: str,
    out_rst: Path,
) -> None:
    """Write reStructuredText for `report/workflow.rst` to include; the verdict is the last paragraph of `answer`.

    Emulated figures carry the word in the same row, and where nothing ran on a GPU a warning comes before everything.
    """
    machine = read_json(environment, Environment)
    rows = read_rows(summary)
    gpus = {record.gpu_uuid for record in read_records(records) if record.gpu_uuid}
    said = [_hosts(machine, len(gpus)), *documents.read_answer(answer)]
    parts = [
        _warning(rows, machine),
        ".. container:: answer\n\n   " + "\n\n   ".join(map(escape, said)),
        _list_table(rows),
        *_reasons(rows),
        *_doubts(rows),
        _claims(read_rows(claims)),
        f"**Machine.** {escape(_machine(machine))}",
        f"**Model.** {escape(_model(read_json(manifest, ModelManifest), dtype))}",
        f"**Method.** {escape(_method(workload))}",
    ]
    write_text(out_rst, "\n\n".join(part for part in parts if part) + "\n")


def escape(text: str) -> str:
    """Text that reStructuredText takes as it stands: in one line, without markup, links or directives."""
    return "".join(f"\\{letter}" if letter in "\\*`_|<>:" else letter for letter in " ".join(text.split()))


def _warning(rows: Sequence[Row], environment: Environment) -> str:
    emulated = [str(row["approach"]) for row in rows if row["status"] == "emulated"]
    if environment.device == "cuda" and not emulated:
        return ""
    said = "No GPU was used in this study. " if environment.device == "cpu" else ""
    if emulated:
        said += (
            f"Emulated: {', '.join(emulated)}. Each replay of a CUDA graph was replaced by the same step run eagerly. "
            "These numbers test the pipeline and say nothing about CUDA graphs."
        )
    return f".. container:: warning\n\n   {escape(said.strip())}"


def _hosts(environment: Environment, gpus: int) -> str:
    device = environment.gpu.name if environment.gpu else f"{environment.cpu}, without a GPU"
    measured = f"({device}), measured on {environment.recorded_at[:10]}"
    if gpus < 2:
        return f"This machine, these minutes: one host {measured}."
    return (
        f"These minutes: {gpus} GPUs {measured}. The processes were spread over them and are pooled: "
        "intervals and P99 hold differences between these GPUs and do not tell how others differ."
    )


def _list_table(rows: Sequence[Row]) -> str:
    lines = [
        ".. list-table:: Means over prompt lengths with 95 % intervals. % of floor is floor (one run) / median.",
        "   :header-rows: 1",
        f"   :widths: {' '.join(str(width) for _, width in COLUMNS)}",
        "",
    ]
    for cells in [[heading for heading, _ in COLUMNS], *map(_row, rows)]:
        lines += [f"   {'*' if place == 0 else ' '} - {text}" for place, text in enumerate(cells)]
    return "\n".join(lines)


def _row(row: Row) -> list[str]:
    status = str(row["status"])
    doubted = " (in doubt)" if _doubt(row) else ""
    what = f"**{escape(str(row['approach']))}** {escape(str(row['title']))}{doubted}"
    if status not in documents.SHOWN:
        return [what, status, *[formatting.NO_VALUE] * (len(COLUMNS) - 2)]
    on_device = pd.notna(row["device_over_idle_gib"])
    memory = formatting.with_interval(row, "device_over_idle" if on_device else "host_peak", "_gib")
    return [
        what,
        status,
        _latency(row, "ttft_mean"),
        formatting.percent(row["ttft_share_of_floor"]),
        _latency(row, "ttft_p99"),
        _latency(row, "itl_request_mean"),
        formatting.percent(row["itl_share_of_floor"]),
        _unbroken(formatting.with_interval(row, "speedup_ttft")),
        f"{_unbroken(memory)}{'' if on_device else ' (host)'}",
        _unbroken(formatting.with_interval(row, "ready", "_s")),
    ]


def _latency(row: Row, column: str) -> str:
    """The value with its interval; where there is none, why: too few samples for a P99, say."""
    note = row.get(f"{column}_note")
    value = formatting.with_interval(row, column, "_ms")
    if value == formatting.NO_VALUE and isinstance(note, str) and note:
        return f"{value} ({escape(note)})"
    return _unbroken(value)


def _unbroken(value: str) -> str:
    """The interval on one line, below its value where the column is narrow."""
    return value.replace(" to ", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}")


def _reasons(rows: Sequence[Row]) -> list[str]:
    """A line for every approach that has no figures: its reason, which is too long for the table."""
    without = [row for row in rows if row["status"] not in documents.SHOWN and isinstance(row.get("reason"), str)]
    return [f"**{escape(str(row['approach']))}** {row['status']}: {escape(str(row['reason']))}" for row in without]


def _doubts(rows: Sequence[Row]) -> list[str]:
    """A line for every approach with a sign in its data that its intervals may not hold."""
    return [f"**{escape(str(row['approach']))}** in doubt: {escape(_doubt(row))}." for row in rows if _doubt(row)]


def _doubt(row: Row) -> str:
    return formatting.text(row.get("doubts"))


def _claims(rows: Sequence[Row]) -> str:
    """How many claims got which verdict; a claim has a row for each of its readings."""
    if not rows:
        return ""
    counts = Counter({row["id"]: row["verdict"] for row in rows}.values())
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    broken = len({row["id"] for row in rows if row["verdict_from_source"] == "contradicts its own source"})
    source = f" The figures of the source itself contradict {broken}." if broken else ""
    return f"**Published claims.** {counts.total()} were judged: {escape(verdicts)}.{source}"


def _machine(environment: Environment) -> str:
    named = [name for name in ("torch", "transformers") if name in environment.packages]
    packages = ", ".join(f"{name} {environment.packages[name]}" for name in named)
    memory_gib = environment.memory_bytes / 2**30
    host = f"{environment.cpu}, {environment.cores} cores, {memory_gib:.0f} GiB; {environment.os}"
    python = f"Python {environment.python}, {packages}"
    if environment.gpu is None:
        threads = "1 thread" if environment.threads == 1 else f"{environment.threads} threads"
        return f"No GPU; {host}; {threads} for the model; {python}."
    gpu = f"{environment.gpu.name} ({environment.gpu.memory_bytes / 2**30:.0f} GiB, driver {environment.driver})"
    used = "" if environment.device == "cuda" else ", not used by this study"
    return f"{gpu}{used}; {host}; CUDA {environment.cuda}; {python}."


def _model(manifest: ModelManifest, dtype: str) -> str:
    random = "random weights (latency does not depend on their values)"
    weights = random if manifest.weights == "random" else "trained weights"
    size = f"{formatting.number(manifest.parameters / 1e6)} million parameters"
    return f"{manifest.name}: {manifest.architecture}, {size}, {weights}, {dtype}; {manifest.origin}."


def _method(workload: Mapping[str, Any]) -> str:
    lengths = ", ".join(str(length) for length in workload["prompt_lengths"])
    sampling = "greedy" if workload.get("sampling", "greedy") == "greedy" else "sampled"
    processes = "1 fresh process" if workload["repeats"] == 1 else f"{workload['repeats']} fresh processes"
    return (
        f"Each approach ran in {processes}. Each process ran {workload['requests']} warm "
        f"requests for every prompt length ({lengths} tokens), one after another, at batch size 1. Each request "
        f"generated {workload['new_tokens']} {sampling} tokens; end-of-sequence was ignored. A token is timed when the "
        "client can read it. Intervals are 95 % intervals over processes."
    )
