"""A JSON record of the study as a page: a row a field, grouped by section, with units that a person reads."""

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
UNITS = {  # ending of a field's name -> its unit here, and how many of the field's own that is
    "_bytes_per_s": ("GB/s", 1e9),
    "_flops_per_s": ("TFLOP/s", 1e12),
    "_bytes": ("GiB", 2**30),
    "_ms": ("ms", 1),
}
BY_NAME = ("packages", "environments", "approaches")  # sections whose fields are names, not words
# Other names, for a better word or for a unit at the end.
NAMES = {
    "approaches": "approaches_before_they_ran",  # their status afterwards may be another one
    "matrix_flops_per_s": "matrix_rate_flops_per_s",
    "matrix_flops_per_s_sustained": "matrix_rate_sustained_flops_per_s",
    "matrix_flops_samples": "matrix_rate_samples_flops_per_s",
    "read_bandwidth_samples": "read_bandwidth_samples_bytes_per_s",
}


def render_record(source: Path, out_html: Path, title: str, *, assets: Path) -> None:
    """Write a `.json` record, which holds a mapping, as a page; a list of mappings is a table of its own."""
    record = json.loads(source.read_text(encoding="utf-8"))
    body = [f"<h1>{escape(title)}</h1>"]
    nested = {key: value for key, value in record.items() if value and _is_section(value)}
    plain = {key: value for key, value in record.items() if not isinstance(value, dict) and key not in nested}
    for heading, section in {"": plain, **nested}.items():
        if heading:
            body.append(f"<h2>{escape(_words(NAMES.get(heading, heading)))}</h2>")
        if isinstance(section, list):
            data = pd.DataFrame(section)
        else:
            named = heading in BY_NAME
            rows = [(name, _shown(value)) if named else _row(name, value) for name, value in _fields(section)]
            data = pd.DataFrame(rows, columns=["field", "value"])
        if not data.empty:
            body.append(html_table(data, heading or source.stem))
    documents.write_document(out_html, assets=assets, title=title, description=title, body="\n".join(body))


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, dict) for item in value))


def _fields(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, nested ones joined by a dot."""
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _row(name: str, value: Any) -> tuple[str, str]:
    """A field in words with its unit, and its value."""
    name = NAMES.get(name, name)
    ending, (unit, size) = next(((end, UNITS[end]) for end in UNITS if name.endswith(end)), ("", ("", 1)))
    if not unit:
        return _words(name), _shown(value)
    return f"{_words(name.removesuffix(ending))}, {unit}", _shown(_divided(value, size))


def _divided(value: Any, size: float) -> Any:
    if isinstance(value, list):
        return [_divided(item, size) for item in value]
    return value / size if isinstance(value, int | float) else value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        more = f", and {len(value) - MOST_SHOWN} more" if len(value) > MOST_SHOWN else ""
        return ", ".join(_shown(item) for item in value[:MOST_SHOWN]) + more
    if isinstance(value, float):
        return formatting.number(value, 4)
    if isinstance(value, int) and not isinstance(value, bool):
        return formatting.count(value)
    return formatting.NO_VALUE if value in (None, "", {}) else formatting.text(value)


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
