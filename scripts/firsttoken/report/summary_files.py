"""The summary to paste: as Markdown into an issue or a chat, as JSON into a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from firsttoken.analysis.answer import p99_signs
from firsttoken.analysis.ranking import ranked
from firsttoken.analysis.schemas import plain_rows, read_table, read_untyped
from firsttoken.files import write_text
from firsttoken.report import documents, formatting
from firsttoken.report.conditions import Conditions
from firsttoken.report.result_cells import DECIDING, FURTHER, cells, ranked_rows
from firsttoken.report.table_page import METRICS, table_rows


def write_markdown(summary: Path, conditions: Conditions, out_md: Path) -> None:
    """Write summary.md: the machine, one table by mean TTFT, and below it what is in doubt or left out, and the
    settings."""
    machine = conditions.environment
    rows, said = [], []
    for row in ranked_rows(summary):
        name, doubts = row["approach"], formatting.text(row.get("doubts"))
        marks = "".join(f" ({mark})" for mark in (row["role"], "in doubt" if doubts else "") if mark)
        rows.append([f"{name}{marks}", *cells(row).values()])
        p99_doubts = "; ".join(p99_signs(formatting.text(row.get("p99_doubts"))))
        notes = {"": formatting.text(row.get("remarks")), " in doubt": doubts, ", P99 in doubt": p99_doubts}
        said += [f"- {name}{what}: {text}." for what, text in notes.items() if text]
    lines = [
        f"{conditions.machine} {machine.recorded_at[:10]}, commit {machine.git_commit[:8]}.",
        "",
        *markdown_table(["Approach", *DECIDING, *FURTHER], rows),
        "",
        *([*said, ""] if said else []),
        f"{conditions.model} {conditions.method} "
        "Values are means over prompt lengths. Floor / TTFT: the floor (of one run) in percent of the median.",
    ]
    write_text(out_md, "\n".join(lines) + "\n")


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; all columns but the first are right-aligned."""
    table = [list(headings), ["---", *["--:"] * (len(headings) - 1)], *rows]
    return [f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in row)} |" for row in table]


def write_summary_json(answer: Path, summary: Path, conditions: Conditions, out_json: Path) -> None:
    """Write summary.json: the answer, the conditions, and every column of summary.csv by approach; null is a gap."""
    found = {
        "answer": documents.read_answer(answer),
        "machine": conditions.machine,
        "model": conditions.model,
        "method": conditions.method,
        "recorded_at": conditions.environment.recorded_at,
        "commit": conditions.environment.git_commit,
        "approaches": plain_rows(ranked(read_table(summary, "summary"))),
    }
    write_text(out_json, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def write_comparison(csv: Path, words: str, out_md: Path) -> None:
    """Write comparison.md: the verdict in `words`, and a line for each figure that both studies have."""
    rows = []
    for row in table_rows(read_untyped(csv).dropna(subset=["a_ms", "b_ms"])):
        what = f"{METRICS[row['metric']]}, {row['statistic']}"
        figures = [formatting.number(row["a_ms"]), formatting.number(row["b_ms"])]
        figures.append(formatting.with_interval(row, "ratio"))
        rows.append([str(row["approach"]), str(row["prompt_length"]), what, *figures, str(row["verdict"])])
    headings = ["Approach", "Prompt tokens", "What", "a, ms", "b, ms", "b / a", "Verdict"]
    write_text(out_md, "\n".join([words, "", *markdown_table(headings, rows)]) + "\n")
