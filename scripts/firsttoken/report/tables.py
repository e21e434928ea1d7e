"""A result table as a page: sorted by a click, downloaded as CSV, readable where it is wide."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from firsttoken.report import documents
from firsttoken.report import formatting as formatting

Cell = object
BADGES = ("verdict", "verdict_from_source", "equivalence", "met")
FRONT = ("verdict",)  # right behind the first column: what a reader came for
LAST = ("sentence", "source", "id", "reason")
LONG, VERY_LONG = 40, 150  # letters: a cell with more gets room
WHOLE = ("source_lines", "processes", "prompt_length", "repeat", "first_position")


@dataclass(frozen=True)
class Column:
    """What one column of the page shows: a value, and where the table has them its interval, unit and note."""

    name: str
    title: str
    low: str | None = None
    high: str | None = None
    within: tuple[str, str, str] | None = None  # of the pooled samples: value and order-statistic interval
    note: str | None = None
    whole: bool = False  # whole numbers, though pandas reads a column with gaps as floats

    @property
    def belongings(self) -> list[str]:
        """The further columns of the table that this one's cells show."""
        return [name for name in (self.low, self.high, *(self.within or ()), self.note) if name]


def render_table(
    csv: Path, out_html: Path, title: str, *, assets: Path, description: str = "", hidden: Sequence[str] = ("title",)
) -> None:
    """Write `csv` as a sortable page. A value, its interval and its note share a cell; a button saves the CSV."""
    data = pd.read_csv(csv, keep_default_na=False, dtype=str)
    numeric = pd.read_csv(csv)
    shown = [name for name in data.columns if name not in hidden]
    body = [f"<h1>{escape(title)}</h1>"]
    if description:
        body.append(f"<p>{escape(description)}</p>")
    if data.empty:
        body.append("<p>This table has no rows in this study.</p>")
    else:
        empty = [column for column in _columns(numeric[shown], {}) if numeric[column.name].isna().all()]
        dropped = [name for column in empty for name in (column.name, *column.belongings)]
        body.append(html_table(numeric[shown].drop(columns=dropped), csv.stem, raw=data.to_csv(index=False)))
        named = [column.title for column in empty if column.name not in LAST]
        if named:
            body.append(f"<p>Without a value in this study: {escape('; '.join(named))}.</p>")
    documents.write_document(
        out_html, assets=assets, title=title, description=description or title, body="\n".join(body)
    )


def html_table(
    data: pd.DataFrame, name: str, *, raw: str | None = None, titles: Mapping[str, str] | None = None
) -> str:
    """A sortable HTML table; `raw` is what its button downloads, by default the frame itself."""
    columns = [column for column in _columns(data, titles or {}) if column.name != "status"]
    named = {column.name for column in columns}
    bearer = "approach" if "approach" in named else columns[0].name  # its cell carries the status as a badge
    columns.sort(key=lambda column: LAST.index(column.name) + 1 if column.name in LAST else 0)
    columns[1:] = sorted(columns[1:], key=lambda column: column.name not in FRONT)
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(column.title)}</button></th>'
        for column in columns
    )
    rows = "".join(_row(row, columns, bearer) for row in data.to_dict("records"))
    download = json.dumps(raw if raw is not None else data.to_csv(index=False)).replace("<", "\\u003c")
    return (
        f'<div class="table" data-name="{escape(name)}"><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(name)} table"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><button type="button" class="download">Download {escape(name)}.csv'
        '</button> <span class="hint">A click on a heading sorts.</span>'
        f'<script type="application/json">{download}</script></div>'
    )


def _columns(data: pd.DataFrame, titles: Mapping[str, str]) -> list[Column]:
    """Columns of the page: intervals and notes go into the cell of the value that they belong to."""
    names = [str(name) for name in data.columns]
    taken: set[str] = set()
    columns = []
    for name in names:
        if name in taken:
            continue
        stem, unit = (name.removesuffix("_ms"), "_ms") if name.endswith("_ms") else (name, "")
        low, high, note = f"{stem}_low{unit}", f"{stem}_high{unit}", f"{stem}_note"
        if names[names.index(name) + 1 : names.index(name) + 3] == ["low", "high"]:  # right behind their value
            low, high = "low", "high"
        within = (f"{stem}_within{unit}", f"{stem}_within_low{unit}", f"{stem}_within_high{unit}")
        has_interval = low in names and high in names
        belongs = [*([low, high] if has_interval else []), note, *within]
        taken |= {belonging for belonging in belongs if belonging in names}
        columns.append(
            Column(
                name,
                titles.get(name, _title(name)),
                low if has_interval else None,
                high if has_interval else None,
                within if within[0] in names else None,
                note if note in names else None,
                name in WHOLE,
            )
        )
    return columns


_WORDS = {
    "gib": "GiB",
    "ttft": "TTFT",
    "itl": "ITL",
    "p90": "P90",
    "p95": "P95",
    "p99": "P99",
    "kl": "KL",
    "rms": "RMS",
    "id": "id",
    "ipc": "IPC",
}
_UNITS = {"_ms": "ms", "_us": "µs", "_s": "s", "_gib": "GiB"}
_TITLES = {
    "n": "Samples",
    "processes": "Processes each",
    "n_processes": "Fresh processes",
    "n_tainted": "Tainted requests",
    "rms_error": "RMS error / spread",
    "rms_bound": "RMS bound",
    "kl_error": "sqrt(2 KL) / spread",
    "kl_bound": "KL bound",
    "slope_error": "Slope's distance from 1",
    "slope_bound": "Slope bound",
    "kl_max": "Largest KL divergence, nats",
    "largest_gap": "Largest gap of another token, nats",
    "gap_bound": "Gap bound, nats",
    "n_a": "Processes of a",
    "n_b": "Processes of b",
    "energy_j_per_token": "Energy, J per token",
}


def _title(name: str) -> str:
    """What a column is called on a page: `ttft_mean_ms` is `TTFT mean, ms`."""
    unit = next((unit for unit in _UNITS if name.endswith(unit)), "")
    words = [_WORDS.get(word, word) for word in name.removesuffix(unit).split("_") if word != "n"]
    text = _TITLES.get(name) or " ".join(words) + (f", {_UNITS[unit]}" if unit else "")
    return text[:1].upper() + text[1:]


def _row(row: Mapping[str, Cell] | Mapping[object, Cell], columns: Sequence[Column], bearer: str) -> str:
    values = {str(key): value for key, value in row.items()}
    status = str(values.get("status", ""))
    cells = [
        _cell(values, column, head=place == 0, status=status if column.name == bearer else "")
        for place, column in enumerate(columns)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(row: Mapping[str, Cell], column: Column, *, head: bool, status: str) -> str:
    value = row[column.name]
    tag = 'th scope="row"' if head else "td"
    badge = f' <span class="badge {escape(status)}">{escape(status)}</span>' if status else ""
    close = "th" if head else "td"
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = escape(_text(value))
        if column.name in BADGES and text:
            text = f'<span class="badge {text.replace(" ", "-")}">{text}</span>'
        size = "words long" if len(text) > VERY_LONG else "words" if len(text) > LONG else ""
        room = f' class="{size}"' if size and column.name not in BADGES else ""
        return f"<{tag}{room}>{text}{badge}</{close}>"
    found = formatting.interval(_float(row, column.low), _float(row, column.high))
    under = [found or _text(row.get(column.note, "") if column.note else "")]
    if column.within:
        pooled, *bounds = (_float(row, name) for name in column.within)
        within = formatting.interval(*bounds)
        under.append(f"within these processes {formatting.number(pooled)} ({within})" if within else "")
    extra = "".join(f" <small>{escape(line)}</small>" for line in under if line)
    whole = isinstance(value, int) or (column.whole and value == value)
    if column.name == "prompt_length" and not value > 0:  # a row about all lengths has 0 there, or nothing
        return f'<{tag} class="number" data-value="0">all{badge}</{close}>'
    shown = f"{int(value):,}" if whole else formatting.number(value, 4 if abs(value) >= 1000 else 3)
    return f'<{tag} class="number" data-value="{value!r}">{escape(shown)}{extra}{badge}</{close}>'


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _float(row: Mapping[str, Cell], name: str | None) -> float | None:
    value = row.get(name) if name else None
    return float(value) if isinstance(value, int | float) else None
