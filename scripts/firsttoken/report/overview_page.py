"""What the overview's template shows: the answer, all approaches side by side, the claims that were judged."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken.analysis.ranking import ranked
from firsttoken.analysis.schemas import ERRORS, read_untyped
from firsttoken.report import diagram, documents
from firsttoken.report.claims_page import NO_GPU, judged, untestable
from firsttoken.report.documents import PageInputs, Template
from firsttoken.report.table_page import Row, deciding, html_table, pick, read_rows

RESULTS = (
    "approach",
    "status",
    "ttft_mean_ms",
    "ttft_p99_ms",
    "itl_request_mean_ms",
    "ttft_share_of_floor",
    "itl_share_of_floor",
    "speedup_ttft",
    "device_over_idle_gib",
    "host_peak_gib",
    "source_lines",
    "processes",
    "ready_s",
    "doubts",
    "p99_doubts",
    *ERRORS,
)


def overview_context(inputs: PageInputs, slots: documents.Slots) -> dict[str, Any]:
    """The names that `overview.md.j2` may use."""
    pages = [documents.read_template(inputs.templates, name) for name in documents.page_names(inputs.templates)]
    summary = read_untyped(inputs.summary_csv)
    shown = ranked(summary)
    results = pick(shown, RESULTS).assign(role=shown["role"])
    claims = read_rows(inputs.claims_csv)
    insights = [row for row in claims if "key insight" in str(row["source"])]
    several = len({row["id"] for row in claims} - {row["id"] for row in insights})
    return {
        "answer": lambda: slots.put(_answer(inputs.answer_txt)),
        "results": lambda: slots.put(html_table(results, "results", first=deciding(shown, "summary"))),
        "insights": lambda: slots.put(_insights(insights)),
        "other_claims": several,
        "architectures": lambda: slots.put(_architectures(pages, summary)),
        "cards": lambda: slots.put(_cards(pages)),
    }


def _answer(answer_txt: Path) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in documents.read_answer(answer_txt))
    return f'<div class="answer">{sentences}</div>'


def _architectures(pages: Sequence[Template], summary: pd.DataFrame) -> str:
    statuses = dict(zip(summary["approach"], summary["status"], strict=True))
    rows = [
        {
            "approach": page.name,
            "status": statuses.get(page.name, "not in this study"),
            "static": page.meta["static"],
            "dynamic": page.meta["dynamic"],
            "process_layout": page.meta["processes"],
        }
        for page in pages
    ]
    return html_table(pd.DataFrame(rows), "architectures")


def _cards(pages: Sequence[Template]) -> str:
    cards = [
        f'<section class="card"><h3><a href="{page.name}.html">{escape(page.name)}</a></h3>'
        f"<p>{escape(str(page.meta['summary']).strip())}</p>"
        f"{diagram.draw(diagram.read_diagram(page.meta['diagram']), standby=False)}</section>"
        for page in pages
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _insights(rows: Sequence[Row]) -> str:
    if not rows:
        return "<p>No key insight was tested in this study.</p>"
    return f"<p>{NO_GPU}</p>" if untestable(rows) else judged(rows)
