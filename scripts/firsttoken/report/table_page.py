"""A result table as a page that sorts by column and downloads as CSV.

Own HTML, since a value shares its cell with its interval and its note, and each page of Snakemake's report must work
alone and offline. Tried instead: itables adds 0.97 MB to every page; great_tables sorts only with React from a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken import files
from firsttoken.analysis.ranking import LOWEST, ranked
from firsttoken.analysis.schemas import ERRORS, UNITS, bounds_of, read_untyped, split_unit
from firsttoken.report import documents, formatting
from firsttoken.results import Environment

Row = Mapping[str, Any]
BADGES = ("verdict", "reading_verdict", "verdict_from_source", "equivalence", "met")
FRONT = ("verdict",)  # right after the first column
LAST = (
    "sentence", "remarks", "doubts", "p99_doubts", "other_conditions", "publication", "source", "url", "id", "reason",
    "host",
)  # fmt: skip
WHOLE = ("source_lines", "processes", "prompt_length", "repeat", "first_position")  # floats where there are gaps
METRICS = {"ttft": "TTFT", "itl_token_gap": "token gap", "itl_request_mean": "request mean ITL"}
CODES = ("metric", "form", "arrangement", "kind", "mode")  # their values are names of the data, not words
# Table -> the columns that are shown at once, before a fold with all of them.
DECIDING = {
    "summary": (
        "approach", "speedup_ttft", "ttft_mean_ms", "itl_request_mean_ms", "ttft_share_of_floor", "itl_share_of_floor",
        "doubts",
    ),
    "latency_by_length": (
        "approach", "prompt_length", "speedup_ttft", "ttft_mean_ms", "ttft_p99_ms", "itl_request_mean_mean_ms",
        "ttft_share_of_floor", "itl_share_of_floor",
    ),
    "equivalence": ("approach", "verdict", "decided_share", "token_check", "rms_error", "rms_bound", "reason"),
    "effects": ("effect", "what", "metric", "prompt_length", "ratio", "difference_ms"),
    "dynamic_work": ("approach", "token", "prompt_length", "mean_us", "share", "saved_us"),
    "comparison": ("approach", "prompt_length", "metric", "statistic", "a_ms", "b_ms", "ratio", "verdict"),
    "combined": ("approach", "prompt_length", "speedup_ttft", "ttft_mean_ms", "itl_request_mean_ms"),
    "hosts": ("approach", "prompt_length", "study", "speedup_ttft", "ttft_mean_ms", "itl_request_mean_ms"),
}  # fmt: skip
# Table -> the column without which a row has only a reason, which is told once for all such rows below the table.
FIGURE = {"effects": "ratio", "dynamic_work": "mean_us"}
LONG, VERY_LONG = 39, 150  # characters; a longer cell, the UUID of a GPU for one, gets a minimum width
WORDS = {"gib": "GiB", "ttft": "TTFT", "itl": "ITL", "kl": "KL", "rms": "RMS", "ipc": "IPC"} | {
    name: name.upper() for name in ("p90", "p95", "p99")
}
TITLES = {
    "n": "Samples",
    "processes": "Processes each",
    "n_processes": "Fresh processes",
    "n_hosts": "Hosts",
    "n_tainted": "Tainted requests",
    "itl_request_mean_ms": "Request mean ITL, ms",
    "itl_request_mean_mean_ms": "Request mean ITL, ms",
    "speedup_ttft": "Speedup, TTFT",
    "speedup_itl": "Speedup, ITL",
    "device_over_idle_gib": "Device memory over idle, GiB",
    "host_peak_gib": "Host memory, GiB",
    "ready_s": "Ready after, s",
    "floor_ttft_ms": "TTFT floor (one run), ms",
    "floor_itl_ms": "ITL floor (one run), ms",
    "ttft_share_of_floor": "Floor / TTFT",
    "itl_share_of_floor": "Floor / ITL",
    "library_ttft_ms": "Best library, products of a prefill (one run), ms",
    "rms_error": "RMS error / spread",
    "rms_bound": "RMS bound",
    "kl_error": "sqrt(2 KL) / spread",
    "kl_bound": "KL bound",
    "slope_error": "Slope's distance from 1",
    "slope_bound": "Slope bound",
    "kl_mean": "Mean KL divergence, nats",
    "kl_max": "Largest KL divergence, nats",
    "top1_agreement": "Top-1 agreement",
    "largest_gap": "Largest gap of another token, nats",
    "gap_bound": "Gap bound, nats",
    "n_a": "Processes of a",
    "n_b": "Processes of b",
    "energy_j_per_token": "Energy, J per token",
    "power_cap_share": "At the power limit, % of readings",
    "sm_clock_mhz_median": "SM clock, MHz",
    "ttft_doubts": "TTFT in doubt",
    "itl_token_gap_doubts": "Token gap in doubt",
    "itl_request_mean_doubts": "ITL in doubt",
    "doubts": "In doubt",
    "p99_doubts": "P99 in doubt",
    "static": "Forward pass (static work)",
    "dynamic": "Padding, positions, sampling (dynamic work)",
    "process_layout": "Processes",
    "reading_verdict": "What the figures here say",
    "verdict_from_source": "The source's own figures",
}


@dataclass(frozen=True)
class Column:
    """One column of the page: a value with, where the table has them, its interval and its note."""

    name: str
    interval: tuple[str, ...] = ()  # low, high
    note: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All columns of the table that this one's cells show."""
        return [self.name, *self.interval, *self.note]


def read_rows(csv: Path) -> list[dict[str, Any]]:
    """The rows of a table, by column name."""
    return table_rows(read_untyped(csv))


def render_table(
    csv: Path,
    out_html: Path,
    title: str,
    *,
    assets: Path,
    description: str = "",
    below: Sequence[tuple[str, Path]] = (),
) -> None:
    """Write `csv` as a sortable page, with more tables `below` their headings. A value, its interval and its note share
    a cell; a button saves the CSV."""
    body = [f"<h1>{escape(title)}</h1>"]
    if description:
        body.append(f"<p>{escape(description)}</p>")
    body += _section(csv)
    for heading, more in below:
        body += [f"<h2>{escape(heading)}</h2>", *_section(more)]
    documents.write_document(
        out_html, assets=assets, title=title, description=description or title, body="\n".join(body)
    )


def _section(csv: Path) -> list[str]:
    data = read_untyped(csv)
    data = data.drop(columns="title", errors="ignore")  # of an approach, whose name is in the row
    if csv.stem == "summary":
        data = ranked(data)
    if data.empty:
        return ["<p>This table has no rows in this study.</p>"]
    data, without = _without_figures(data, csv.stem)
    if data.empty:
        return without
    empty = [column for column in _columns(data) if data[column.name].isna().all()]
    shown = data.drop(columns=[name for column in empty for name in column.names])
    named = [title(column.name) for column in empty if column.name not in LAST]
    missing = [f"<p>Without a value in this study: {escape('; '.join(named))}.</p>"] if named else []
    raw = csv.read_text(encoding="utf-8")
    return [html_table(shown, csv.stem, raw=raw, first=deciding(data, csv.stem)), *without, *missing]


def _without_figures(data: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows that have figures, and for the others a paragraph for each reason."""
    if name not in FIGURE:
        return data, []
    there = data[FIGURE[name]].notna() | data["reason"].isna()
    told = []
    for reason, rows in data[~there].groupby("reason", sort=False):
        names = ", ".join(dict.fromkeys(map(str, rows.iloc[:, 0])))
        told.append(f"<p>No figure for {escape(names)}: {escape(str(reason))}.</p>")
    return data[there], told


def emulation_note(environment: Path) -> str:
    """What stands over an experiment on graph approaches, by the study's environment.json; "" where it ran on a GPU."""
    if files.read_json(environment, Environment).device == "cuda":
        return ""
    return "Emulated: no CUDA device, each graph replay was the same step run eagerly. This is no evidence about a GPU."


def deciding(data: pd.DataFrame, name: str) -> tuple[str, ...]:
    """The columns of a table that are shown at once; the errors too, where one approach is approximate."""
    errors = ERRORS if name == "summary" and "approximate" in set(data["status"]) else ()
    return (*DECIDING.get(name, ()), *errors)


def pick(data: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The named columns with what belongs to them; left out are those with neither a value nor a note."""
    found = {column.name: column.names for column in _columns(data)}
    wanted = [found[name] for name in names if name in found]
    return data[[name for group in wanted if data[group].notna().any(axis=None) for name in group]]


def html_table(
    data: pd.DataFrame, name: str, *, raw: str | None = None, first: Sequence[str] = (), fold: str = ""
) -> str:
    """A sortable HTML table; `raw` is what its button downloads, by default the frame itself.

    `first` names the columns that are in sight; all columns are behind a fold. With `fold`, its words, the whole table
    is behind one.
    """
    short = pick(data, first)
    extra = [column for column in ("status", "role") if column in data and column not in short]
    whole = _table(data, name)
    if len(short.columns) and len(_columns(short)) < len(_columns(data)) - len(extra):
        folded = f"<details><summary>All columns</summary>{whole}</details>"
        whole = _table(pd.concat([short, data[extra]], axis=1), name) + folded
    if fold:
        whole = f"<details><summary>{escape(fold)}</summary>{whole}</details>"
    download = json.dumps(raw if raw is not None else data.to_csv(index=False)).replace("<", "\\u003c")
    return (
        f'<div class="table" data-name="{escape(name)}">{whole}'
        f'<button type="button" class="download">Download {escape(name)}.csv'
        '</button><span class="hint">Click a heading to sort.</span>'
        f'<script type="application/json">{download}</script></div>'
    )


def _table(data: pd.DataFrame, name: str) -> str:
    columns = [column for column in _columns(data) if column.name not in ("status", "role")]
    badged = "approach" if "approach" in data.columns else columns[0].name  # its cell shows the badges of the row
    columns.sort(key=lambda column: LAST.index(column.name) + 1 if column.name in LAST else 0)
    columns[1:] = sorted(columns[1:], key=lambda column: column.name not in FRONT)
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(title(column.name))}</button></th>'
        for column in columns
    )
    rows = "".join(f"<tr>{_row(row, columns, badged)}</tr>" for row in table_rows(data))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)} table">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def table_rows(data: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows by column name."""
    return [{str(name): value for name, value in row.items()} for row in data.to_dict("records")]


def _columns(data: pd.DataFrame) -> list[Column]:
    """Columns of the page: intervals and notes go into the cell of the value that they belong to."""
    names = [str(name) for name in data.columns]
    taken: set[str] = set()
    columns = []
    for name in names:
        if name in taken:
            continue
        note = (f"{split_unit(name)[0]}_note",)
        groups = [group if set(group) <= set(names) else () for group in (bounds_of(name), note)]
        columns.append(Column(name, *groups))
        taken |= set(columns[-1].names)
    return columns


def title(name: str) -> str:
    """What a column is called on a page: `ttft_mean_ms` is `TTFT mean, ms`."""
    if name in TITLES:
        return TITLES[name]
    stem, unit = split_unit(name)
    words = [WORDS.get(word, word) for word in stem.split("_") if word != "n"]
    text = " ".join(words) + (f", {UNITS[unit]}" if unit else "")
    return text[:1].upper() + text[1:]


def _row(row: Row, columns: Sequence[Column], badged: str) -> str:
    said = [str(row.get("role", "")), str(row.get("status", ""))]
    if said[0] == LOWEST:
        said.pop()  # only what was measured can be
    badges = "".join(f" {badge(word)}" for word in said if word)
    cells = []
    for place, column in enumerate(columns):
        tag, scope = ("td", "") if place else ("th", ' scope="row"')
        attributes, content = _cell(row, column)
        cells.append(f"<{tag}{scope}{attributes}>{content}{badges if column.name == badged else ''}</{tag}>")
    return "".join(cells)


def _cell(row: Row, column: Column) -> tuple[str, str]:
    """Attributes and content of a cell; numbers carry the value that they are sorted by."""
    value = row[column.name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = formatting.text(value)
        if column.name in CODES:
            text = METRICS.get(text, text.replace("_", " "))
        if column.name in BADGES:
            return "", badge(text) if text else ""
        text = escape(text)
        size = "words long" if len(text) > VERY_LONG else "words" if len(text) > LONG else ""
        return f' class="{size}"' if size else "", text
    if column.name == "prompt_length" and not value > 0:  # a row about all lengths has 0 there, or nothing
        return ' class="number" data-value="0"', "all"
    under = [formatting.interval(*(row[name] for name in column.interval))] if column.interval else []
    if not any(under):
        under = [formatting.text(row[name]) for name in column.note]
    extra = "".join(f" <small>{escape(line)}</small>" for line in under if line)
    return f' class="number" data-value="{value!r}"', _shown(value, column.name) + extra


def badge(word: str) -> str:
    """A verdict as a badge."""
    word = escape(word)
    return f'<span class="badge {word.replace(" ", "-")}">{word}</span>'


def _shown(value: float, name: str) -> str:
    if name.endswith(("_share_of_floor", "power_cap_share")):
        return formatting.percent(value)
    if isinstance(value, int) or name in WHOLE:
        return formatting.count(value)
    return formatting.number(value, 4 if abs(value) >= 1000 else 3)
