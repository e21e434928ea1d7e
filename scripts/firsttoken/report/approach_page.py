"""One page an approach, and the overview: explained from the code as it ran and the tables of this study."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from firsttoken.report import diagram, documents, drawing
from firsttoken.report import formatting as formatting
from firsttoken.report.excerpts import SourceMissingError, excerpt
from firsttoken.report.tables import html_table

OVERVIEW = "overview"
SHOWN = ("measured", "emulated")
STATUS_WORDS = {
    "measured": "measured in this study",
    "emulated": "emulated in this study: no CUDA device, so each graph replay was replaced by the eager step; the "
    "figures below are no CUDA-graph figures",
    "unavailable": "unavailable in this study",
    "failed": "failed in this study, so its latencies are not shown",
}
BY_LENGTH = {
    "prompt_length": "Prompt tokens",
    "ttft_mean_ms": "Mean TTFT, ms",
    "ttft_p99_ms": "P99 TTFT, ms",
    "itl_request_mean_mean_ms": "Mean ITL, ms",
    "itl_token_gap_p99_ms": "P99 token gap, ms",
    "floor_ttft_ms": "Floor of TTFT, ms",
    "ttft_share_of_floor": "Floor's share of TTFT",
    "floor_itl_ms": "Floor of ITL, ms",
    "itl_share_of_floor": "Floor's share of ITL",
    "speedup_ttft": "Times as fast",
}
OVERALL = {
    "approach": "Approach",
    "status": "Status",
    "ttft_mean_ms": "Mean TTFT, ms",
    "ttft_p99_ms": "P99 TTFT, ms",
    "itl_request_mean_ms": "Mean ITL, ms",
    "ttft_share_of_floor": "Floor's share of TTFT",
    "itl_share_of_floor": "Floor's share of ITL",
    "device_over_idle_gib": "Device memory, GiB",
    "host_peak_gib": "Host memory, GiB",
    "source_lines": "Source lines",
    "processes": "Processes",
    "ready_s": "Ready after, s",
    "speedup_ttft": "Times as fast",
}


ARCHITECTURE = {
    "approach": "Approach",
    "static": "Forward pass (static work)",
    "dynamic": "Padding, positions, sampling (dynamic work)",
    "processes": "Processes",
}


@dataclass(frozen=True)
class PageInputs:
    """Where a page's words, code and figures come from."""

    templates: Path  # report/approaches
    assets: Path  # report/assets
    package: Path  # scripts/firsttoken
    summary_csv: Path
    latency_csv: Path
    claims_csv: Path
    answer_txt: Path
    study: str


def render_page(name: str, inputs: PageInputs, out_html: Path) -> None:
    """Write the page of one approach, or the overview. Raises ValueError that names the page and what it lacks."""
    slots = documents.Slots()
    template = documents.read_template(inputs.templates, name)
    try:
        context = _overview_context(inputs, slots) if name == OVERVIEW else _page_context(template, inputs, slots)
        body = documents.render_markdown(template, context, slots)
    except SourceMissingError as error:
        raise SourceMissingError(f"{inputs.templates / name}.md.j2 names code that is not there: {error}") from error
    title = str(template.meta["title"])
    lead = f'<h1>{escape(title)}</h1><p class="lead">{escape(str(template.meta["summary"]).strip())}</p>'
    documents.write_document(
        out_html,
        assets=inputs.assets,
        title=f"{title} · firsttoken",
        description=str(template.meta["summary"]).strip(),
        body=lead + body,
        navigation=_navigation(name, inputs.templates),
    )


def _navigation(current: str, templates: Path) -> str:
    names = [OVERVIEW, *documents.page_names(templates)]
    links = "".join(_nav_link(name, current) for name in names)
    return f'<nav aria-label="Approaches"><ul>{links}</ul></nav>'


def _nav_link(name: str, current: str) -> str:
    here = ' aria-current="page"' if name == current else ""
    return f'<li><a href="{name}.html"{here}>{escape(name)}</a></li>'


def _page_context(template: documents.Template, inputs: PageInputs, slots: documents.Slots) -> dict[str, Any]:
    described = diagram.read_diagram(template.meta["diagram"])
    wide = drawing.draw(described, f"{template.name}-wide")
    narrow = drawing.draw(described, f"{template.name}-narrow", per_row=2)
    drawings = f'<figure class="drawing wide">{wide}</figure><figure class="drawing narrow">{narrow}</figure>'
    return {
        "study": inputs.study,
        "diagram": lambda: slots.put(drawings),
        "source": lambda name: slots.put(excerpt(inputs.package, name).html),
        "measured": lambda: slots.put(measured(template.name, inputs)),
        "page": _link,
    }


def _link(name: str) -> str:
    """Markdown for a link to another page."""
    return f"[{name}]({name}.html)"


def measured(name: str, inputs: PageInputs) -> str:
    """What this study found for an approach, or that it was not in it, as HTML."""
    summary = _rows(inputs.summary_csv)
    row = next((row for row in summary if row["approach"] == name), None)
    if row is None:
        return f"<p>{escape(name)} was not in the study {escape(inputs.study)}.</p>"
    status = str(row["status"])
    reason = f": {escape(str(row['reason']).rstrip('.'))}" if isinstance(row.get("reason"), str) else ""
    said = (
        f'<p><span class="badge {escape(status)}">{escape(status)}</span> {escape(name)}: '
        f"{escape(STATUS_WORDS[status])}{reason if status not in SHOWN else ''}.</p>"
    )
    if status not in SHOWN:
        return said
    lengths = pd.read_csv(inputs.latency_csv)
    lengths = lengths[lengths["approach"] == name]
    return said + _facts(row) + html_table(_pick(lengths, BY_LENGTH), f"{name} by prompt length", titles=BY_LENGTH)


def _facts(row: Mapping[str, Any]) -> str:
    facts = {
        "Mean TTFT": f"{formatting.with_interval(row, 'ttft_mean', '_ms')} ms",
        "P99 TTFT": f"{formatting.with_interval(row, 'ttft_p99', '_ms')} ms",
        "Mean ITL": f"{formatting.with_interval(row, 'itl_request_mean', '_ms')} ms",
        "Floor of TTFT": formatting.floor(row, "ttft"),
        "Floor of ITL": formatting.floor(row, "itl"),
        "Times as fast as baseline": formatting.with_interval(row, "speedup_ttft"),
        "Ready after": f"{formatting.number(row['ready_s'])} s",
        "Host memory, peak": f"{formatting.number(row['host_peak_gib'])} GiB",
        "Device memory over idle": f"{formatting.number(row['device_over_idle_gib'])} GiB",
        "Source lines": _count(row["source_lines"]),
        "Equality with the reference": str(row["equivalence"]),
    }
    items = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>"
        for what, value in facts.items()
        if not value.startswith(formatting.NO_VALUE)
    )
    return f'<dl class="facts">{items}</dl>'


def _count(value: float) -> str:
    """A whole number, which is a float where the column has gaps."""
    return formatting.NO_VALUE if pd.isna(value) else f"{int(value):,}"


def _pick(data: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """The wanted columns with what belongs to them, those left out that have neither value nor note."""
    wanted = []
    for name in titles:
        stem, unit = (name.removesuffix("_ms"), "_ms") if name.endswith("_ms") else (name, "")
        belongings = [name, f"{stem}_low{unit}", f"{stem}_high{unit}", f"{stem}_note"]
        found = [belonging for belonging in belongings if belonging in data.columns]
        if data[found].notna().any(axis=None):  # a note alone says why there is no value
            wanted += found
    return data[wanted]


def _rows(csv: Path) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in pd.read_csv(csv).to_dict("records")]


def _overview_context(inputs: PageInputs, slots: documents.Slots) -> dict[str, Any]:
    pages = [documents.read_template(inputs.templates, name) for name in documents.page_names(inputs.templates)]
    claims = _rows(inputs.claims_csv)
    return {
        "study": inputs.study,
        "page": _link,
        "answer": lambda: slots.put(_answer(inputs.answer_txt)),
        "architectures": lambda: slots.put(_architectures(pages, inputs)),
        "cards": lambda: slots.put(_cards(pages)),
        "results": lambda: slots.put(
            html_table(_pick(pd.read_csv(inputs.summary_csv), OVERALL), "results", titles=OVERALL)
        ),
        "insights": lambda: slots.put(_insights([row for row in claims if "key insight" in str(row["source"])])),
        "other_claims": len([row for row in claims if "key insight" not in str(row["source"])]),
        "claims_page": "[page of claims](../pages/claims.html)",
    }


def _answer(answer_txt: Path) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in formatting.verdict(answer_txt))
    return f'<div class="answer">{sentences}</div>'


def _architectures(pages: Sequence[documents.Template], inputs: PageInputs) -> str:
    statuses = {str(row["approach"]): str(row["status"]) for row in _rows(inputs.summary_csv)}
    rows = [
        {
            "approach": page.name,
            "status": statuses.get(page.name, "not in this study"),
            "static": page.meta["static"],
            "dynamic": page.meta["dynamic"],
            "processes": page.meta["processes"],
        }
        for page in pages
    ]
    return html_table(pd.DataFrame(rows), "architectures", titles=ARCHITECTURE)


def _cards(pages: Sequence[documents.Template]) -> str:
    cards = []
    for page in pages:
        described = diagram.read_diagram(page.meta["diagram"])
        small = drawing.draw(described, f"{page.name}-card", per_row=2, standby=False)
        cards.append(
            f'<section class="card"><h3><a href="{page.name}.html">{escape(page.name)}</a></h3>'
            f"<p>{escape(str(page.meta['summary']).strip())}</p>"
            f'<figure class="drawing">{small}</figure></section>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _insights(claims: Sequence[Mapping[str, Any]]) -> str:
    if not claims:
        return "<p>No key insight was put to the test in this study.</p>"
    items = "".join(
        f'<li><p><span class="number">{escape(_number(row))}</span> '
        f'<span class="badge {_slug(row["verdict"])}">{escape(str(row["verdict"]))}</span> '
        f"<strong>{escape(str(row['claim']))}</strong></p><p>{escape(str(row['sentence']))}{_own_source(row)}</p></li>"
        for row in claims
    )
    return f'<ul class="insights">{items}</ul>'


def _number(row: Mapping[str, Any]) -> str:
    """`Insight 2`: the source's own number, since one of its insights may hold several claims."""
    found = re.search(r"key insight (\d+)", str(row["source"]))
    return f"Insight {found[1]}" if found else "Insight"


def _own_source(row: Mapping[str, Any]) -> str:
    if str(row["verdict_from_source"]) == "contradicts its own source":
        return " <strong>It contradicts its own source.</strong>"
    return ""


def _slug(text: object) -> str:
    return str(text).replace(" ", "-")
