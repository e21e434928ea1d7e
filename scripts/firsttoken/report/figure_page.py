"""A figure as a page: the SVG inlined, so that its text can be selected and read aloud, and its data below."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

from firsttoken.analysis.schemas import read_untyped
from firsttoken.report import documents
from firsttoken.report.table_page import html_table

PIXELS_PER_POINT = 4 / 3
MOST_ROWS = 60  # shown; the download has all, where the page stays small enough
# Snakemake's report opens a page as a data URI in base64, of which Chromium takes 2 MiB at most.
MOST_BYTES = 1_500_000


def render_figure(svg: Path, csv: Path, out_html: Path, title: str, *, assets: Path, caption: str) -> None:
    """Write one figure, SVG inlined, over its caption and its data. Raises ValueError where `svg` is no SVG of ours."""
    text = svg.read_text(encoding="utf-8")
    found = re.search(r'<svg [^>]*?width="([\d.]+)pt"', text)
    if found is None:
        raise ValueError(f"{svg}: no <svg> element with a width in points; draw it again")
    figure = (
        f'<figure class="plot" style="--width:{float(found[1]) * PIXELS_PER_POINT:.0f}px" tabindex="0" '
        f'aria-label="{escape(title)}">{text[found.start() :]}</figure>'
    )
    body = [f"<h1>{escape(title)}</h1>", figure, f"<p>{escape(caption)}</p>"]
    raw: str | None = csv.read_text(encoding="utf-8")
    data = read_untyped(csv)
    if data.empty:
        body.append("<p>This figure has no data in this study.</p>")
    else:
        shown = f"the first {MOST_ROWS} of {len(data):,} rows" if len(data) > MOST_ROWS else "all rows"
        if len(text) + len(json.dumps(raw)) > MOST_BYTES:
            raw, shown = None, f"{shown}; the whole is {csv.parent.name}/{csv.name}"
        body.append(html_table(data.head(MOST_ROWS), csv.stem, raw=raw, fold=f"Data: {shown}"))
    documents.write_document(out_html, assets=assets, title=title, description=caption, body="\n".join(body))
