"""The text that opens the report: the answer first, then the results, machine, model and method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path

from firsttoken.files import write_text
from firsttoken.pooled_runs import RAN, read_records
from firsttoken.report import documents, formatting
from firsttoken.report.conditions import Conditions
from firsttoken.report.result_cells import DECIDING, cells, ranked_rows
from firsttoken.report.table_page import Row, read_rows
from firsttoken.results import Environment


def write_landing(
    answer: Path, summary: Path, claims: Path, records: Path, conditions: Conditions, out_rst: Path
) -> None:
    """Write reStructuredText for `report/workflow.rst` to include; the verdict is the last paragraph of `answer`.

    Emulated figures carry the word in the same row, and where nothing ran on a GPU a warning comes before everything.
    """
    machine = conditions.environment
    rows = ranked_rows(summary)
    gpus = {record.gpu_uuid for record in read_records(records) if record.status in RAN}
    winner, *rest = documents.read_answer(answer)
    said = [winner, _hosts(machine, gpus), *rest]
    parts = [
        _warning(rows, machine),
        ".. container:: answer\n\n   " + "\n\n   ".join(map(escape, said)),
        _list_table(rows),
        *_reasons(rows),
        *_remarks(rows),
        *_doubts(rows),
        _claims(read_rows(claims)),
        f"**Machine.** {escape(conditions.machine)}",
        f"**Model.** {escape(conditions.model)}",
        f"**Method.** {escape(conditions.method)}",
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


def _hosts(environment: Environment, gpus: Set[str]) -> str:
    """On what the study was measured; `gpus` are the UUIDs of all runs, "" where one was not recorded."""
    device = environment.gpu.name if environment.gpu else f"{environment.cpu}, without a GPU"
    measured = f"({device}), measured on {environment.recorded_at[:10]}"
    if environment.gpu and "" in gpus:
        return (
            f"These minutes: one machine {measured}. The records do not say on how many of its GPUs the processes ran."
        )
    if len(gpus) < 2:
        return f"This machine, these minutes: one host {measured}."
    return (
        f"These GPUs, these minutes: {len(gpus)} {measured}. The processes were spread over them and are pooled: "
        "intervals and P99 hold differences between these GPUs and do not tell how others differ. "
        "Those that ran at the same time on one machine shared its processor and memory."
    )


def _list_table(rows: Sequence[Row]) -> str:
    errors = any(row["status"] == "approximate" for row in rows)  # stand in the column of the status
    lines = [
        ".. list-table:: By mean TTFT. Means over prompt lengths with 95 % intervals. Floor / TTFT: the floor (of one "
        "run) in percent of the median.",
        "   :header-rows: 1",
        f"   :widths: 24 {24 if errors else 12} {' '.join(['12'] * (len(DECIDING) - 1))}",
        "",
    ]
    for row in [["Approach", *DECIDING], *map(_row, rows)]:
        lines += [f"   {'*' if place == 0 else ' '} - {text}" for place, text in enumerate(row)]
    return "\n".join(lines)


def _row(row: Row) -> list[str]:
    marks = [row["role"], "in doubt" if _doubt(row) else ""]
    said = "".join(f" ({mark})" for mark in marks if mark)
    shown = cells(row)
    return [
        f"**{escape(str(row['approach']))}** {escape(str(row['title']))}{said}",
        *(escape(shown[heading]).replace(" to ", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}") for heading in DECIDING),
    ]


def _reasons(rows: Sequence[Row]) -> list[str]:
    """A line for every approach that has no figures: its reason, which is too long for the table."""
    without = [row for row in rows if row["status"] not in RAN and isinstance(row.get("reason"), str)]
    return [f"**{escape(str(row['approach']))}** {row['status']}: {escape(str(row['reason']))}" for row in without]


def _remarks(rows: Sequence[Row]) -> list[str]:
    """A line for every approach with requests that are left out, or at the GPU's power limit."""
    known = [(row["approach"], formatting.text(row.get("remarks"))) for row in rows]
    return [f"**{escape(str(name))}**: {escape(remarks)}." for name, remarks in known if remarks]


def _doubts(rows: Sequence[Row]) -> list[str]:
    """A line for every approach with a sign in its data that its intervals may not hold."""
    return [f"**{escape(str(row['approach']))}** in doubt: {escape(_doubt(row))}." for row in rows if _doubt(row)]


def _doubt(row: Row) -> str:
    return formatting.text(row.get("doubts"))


def _claims(rows: Sequence[Row]) -> str:
    """How many claims got which verdict; a claim has a row for each of its readings."""
    counts = Counter({row["id"]: row["verdict"] for row in rows}.values())
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    broken = len({row["id"] for row in rows if row["verdict_from_source"] == "contradicts its own source"})
    of = f"{broken} claim{'' if broken == 1 else 's'}"
    source = f" Of {of}, the source's own figures contradict at least one reading." if broken else ""
    return f"**Published claims.** {counts.total()} were put to this study: {escape(verdicts)}.{source}"
