"""Published claims with their verdicts: by publication, each with its readings; the rows are behind a fold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from firsttoken.analysis.schemas import read_untyped
from firsttoken.report import documents
from firsttoken.report.table_page import Row, badge, html_table, read_rows

INTRODUCTION = (
    "What publications claim, against the figures of this study. The words of a claim often have several readings. "
    "Each reading is judged alone, and the claim has the verdict that its readings give together."
)
NO_GPU = "No claim was tested: they are about GPUs, and this study ran on none."


def render_claims(csv: Path, out_html: Path, title: str, *, assets: Path) -> None:
    """Write claims.csv as a page. A study without a GPU has one line in place of the verdicts."""
    rows = read_rows(csv)
    body = [f"<h1>{escape(title)}</h1><p>{escape(INTRODUCTION)}</p>"]
    if untestable(rows):
        body.append(f"<p><strong>{NO_GPU}</strong></p>")
    for (name, url), group in groupby(rows, key=lambda row: (str(row["publication"]), row["url"])):
        heading = f'<a href="{escape(url)}">{escape(name)}</a>' if isinstance(url, str) else escape(name)
        found = list(group)
        body.append(f"<h2>{heading}</h2>{'' if untestable(rows) else judged(found)}")
    data, raw = read_untyped(csv), csv.read_text(encoding="utf-8")
    body.append(html_table(data, csv.stem, raw=raw, fold="All rows"))
    documents.write_document(out_html, assets=assets, title=title, description=INTRODUCTION, body="\n".join(body))


def untestable(rows: Sequence[Row]) -> bool:
    """Whether nothing was tested because no GPU was there."""
    return all("this study ran on none" in str(row["sentence"]) for row in rows)


def judged(rows: Sequence[Row]) -> str:
    """What differs from the conditions of the source; then each claim with its verdict and its readings."""
    claims = [list(group) for _, group in groupby(rows, key=lambda row: row["id"])]
    other = rows[0]["other_conditions"]
    conditions = f"<p>Other conditions than the source's: {escape(other)}.</p>" if isinstance(other, str) else ""
    return f'{conditions}<ul class="insights">{"".join(map(_claim, claims))}</ul>'


def _claim(readings: Sequence[Row]) -> str:
    first = readings[0]
    # The source's own number, since one of its insights may hold several claims.
    found = re.search(r"key insight (\d+)", str(first["source"]))
    source = f"Insight {found[1]}" if found else str(first["source"])
    items = "".join(
        f"<li><em>{escape(str(row['reading']))}</em>: {escape(str(row['sentence']))}{_own_source(row)}</li>"
        for row in readings
    )
    return (
        f"<li><p><strong>{escape(str(first['claim']))}</strong> {badge(str(first['verdict']))} "
        f'<span class="number">{escape(source)}</span></p><ul>{items}</ul></li>'
    )


def _own_source(row: Row) -> str:
    if str(row["verdict_from_source"]) == "contradicts its own source":
        return " <strong>It contradicts its own source.</strong>"
    return ""
