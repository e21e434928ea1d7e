"""A JSON record of the study as a page: a row a field, grouped by section."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken.report import documents, formatting
from firsttoken.report.table_page import html_table

MOST_SHOWN = 12  # values of a list; the record itself has all


def render_record(source: Path, out_html: Path, title: str, *, assets: Path) -> None:
    """Write a `.json` record, which holds a mapping, as a page."""
    record = json.loads(source.read_text(encoding="utf-8"))
    body = [f"<h1>{escape(title)}</h1>"]
    plain = {key: value for key, value in record.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in record.items() if isinstance(value, dict) and value}
    for heading, section in {"": plain, **sections}.items():
        rows = [(name, _shown(value)) for name, value in _fields(section)]
        if not rows:
            continue
        if heading:
            body.append(f"<h2>{escape(_words(heading))}</h2>")
        body.append(html_table(pd.DataFrame(rows, columns=["field", "value"]), heading or source.stem))
    documents.write_document(
        out_html, assets=assets, title=f"{title} · firsttoken", description=title, body="\n".join(body)
    )


def _fields(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, nested ones joined by a dot, lists of mappings by their place."""
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for place, item in enumerate(value, start=1):
                yield from _fields(item, f"{prefix}{name}.{place}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        more = f", and {len(value) - MOST_SHOWN} more" if len(value) > MOST_SHOWN else ""
        return ", ".join(_shown(item) for item in value[:MOST_SHOWN]) + more
    if isinstance(value, float):
        return formatting.number(value, 5)
    if isinstance(value, int) and not isinstance(value, bool):
        return formatting.count(value)
    return formatting.NO_VALUE if value in (None, "", {}) else formatting.text(value)


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
