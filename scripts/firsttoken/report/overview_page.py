"""What the overview's template shows: the answer, all approaches side by side, the claims that were judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken.report import diagram, documents
from firsttoken.report.documents import PageInputs, Template
from firsttoken.report.table_page import Row, html_table, pick, read_rows

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
)


def overview_context(inputs: PageInputs, slots: documents.Slots) -> dict[str, Any]:
    """The names that `overview.md.j2` may use."""
    pages = [documents.read_template(inputs.templates, name) for name in documents.page_names(inputs.templates)]
    summary = pd.read_csv(inputs.summary_csv)
    claims = read_rows(inputs.claims_csv)
    insights = [row for row in claims if "key insight" in str(row["source"])]
    return {
        "answer": lambda: slots.put(_answer(inputs.answer_txt)),
        "results": lambda: slots.put(html_table(pick(summary, RESULTS), "results")),
        "insights": lambda: slots.put(_insights(insights)),
        "other_claims": len(claims) - len(insights),
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


def _insights(claims: Sequence[Row]) -> str:
    if not claims:
        return "<p>No key insight was tested in this study.</p>"
    items = "".join(
        f'<li><p><span class="number">{escape(_number(row))}</span> '
        f'<span class="badge {str(row["verdict"]).replace(" ", "-")}">{escape(str(row["verdict"]))}</span> '
        f"<strong>{escape(str(row['claim']))}</strong></p><p>{escape(str(row['sentence']))}{_own_source(row)}</p></li>"
        for row in claims
    )
    return f'<ul class="insights">{items}</ul>'


def _number(row: Row) -> str:
    """`Insight 2`: the source's own number, since one of its insights may hold several claims."""
    found = re.search(r"key insight (\d+)", str(row["source"]))
    return f"Insight {found[1]}" if found else "Insight"


def _own_source(row: Row) -> str:
    if str(row["verdict_from_source"]) == "contradicts its own source":
        return " <strong>It contradicts its own source.</strong>"
    return ""
