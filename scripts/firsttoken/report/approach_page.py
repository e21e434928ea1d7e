"""The page of one approach: what it is, the code that ran, and what this study measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from firsttoken.analysis.schemas import ERRORS, read_untyped
from firsttoken.pooled_runs import RAN
from firsttoken.report import diagram, documents, formatting
from firsttoken.report.documents import PageInputs
from firsttoken.report.excerpts import SourceMissingError, excerpt
from firsttoken.report.overview_page import overview_context
from firsttoken.report.table_page import Row, html_table, pick, read_rows, title
from firsttoken.results import RunRecord

OVERVIEW = "overview"
STATUS_WORDS = {
    "measured": "measured in this study",
    "emulated": "emulated in this study. Without a CUDA device each graph replay was replaced by the eager step; the "
    "figures below are not CUDA graph figures",
    "approximate": "measured in this study. It computes another function by design",
    "unavailable": "unavailable in this study",
    "failed": "failed in this study, so its latencies are not shown",
}
BY_LENGTH = (
    "prompt_length",
    "speedup_ttft",
    "ttft_mean_ms",
    "ttft_p99_ms",
    "itl_request_mean_mean_ms",
    "ttft_share_of_floor",
    "itl_share_of_floor",  # the columns up to here are in sight
    "itl_token_gap_p99_ms",
    "floor_ttft_ms",
    "library_ttft_ms",
    "floor_itl_ms",
    "ttft_doubts",
    "itl_request_mean_doubts",
    "itl_token_gap_doubts",
)


def render_page(name: str, inputs: PageInputs, out_html: Path) -> None:
    """Write the page of one approach, or the overview. Raises ValueError that names the page and what it lacks."""
    slots = documents.Slots()
    template = documents.read_template(inputs.templates, name)
    context = overview_context(inputs, slots) if name == OVERVIEW else _approach_context(template, inputs, slots)
    shared = {"study": inputs.study, "page": lambda other: f"[{other}]({other}.html)"}
    try:
        body = documents.render_markdown(template, context | shared, slots)
    except SourceMissingError as error:
        raise SourceMissingError(f"{inputs.templates / name}.md.j2 names code that is not there: {error}") from error
    title, summary = str(template.meta["title"]), str(template.meta["summary"]).strip()
    documents.write_document(
        out_html,
        assets=inputs.assets,
        title=title,
        description=summary,
        body=f'<h1>{escape(title)}</h1><p class="lead">{escape(summary)}</p>{body}',
        navigation=_navigation(name, inputs.templates),
    )


def _navigation(current: str, templates: Path) -> str:
    here = {current: ' aria-current="page"'}
    names = [OVERVIEW, *documents.page_names(templates)]
    links = "".join(f'<li><a href="{name}.html"{here.get(name, "")}>{name}</a></li>' for name in names)
    return f'<nav aria-label="Approaches"><ul>{links}</ul></nav>'


def _approach_context(template: documents.Template, inputs: PageInputs, slots: documents.Slots) -> dict[str, Any]:
    described = diagram.read_diagram(template.meta["diagram"])
    return {
        "diagram": lambda: slots.put(diagram.draw(described)),
        "source": lambda name: slots.put(excerpt(inputs.package, name)),
        "measured": lambda: slots.put(measured(template.name, inputs)),
    }


def measured(name: str, inputs: PageInputs) -> str:
    """What this study found for an approach, or that it was not in it, as HTML."""
    row = next((row for row in read_rows(inputs.summary_csv) if row["approach"] == name), None)
    if row is None:
        return f"<p>{escape(name)} was not in the study {escape(inputs.study)}.</p>"
    status = str(row["status"])
    reason = f": {escape(str(row['reason']).rstrip('.'))}" if isinstance(row.get("reason"), str) else ""
    said = (
        f'<p><span class="badge {escape(status)}">{escape(status)}</span> {escape(name)}: '
        f"{escape(STATUS_WORDS[status])}{reason if status not in ('measured', 'emulated') else ''}.</p>"
    )
    if status not in RAN:
        return said
    lengths = read_untyped(inputs.latency_csv)
    lengths = pick(lengths[lengths["approach"] == name], BY_LENGTH)
    records = [record for record in inputs.records if record.approach == name]
    return said + _facts(row, records) + html_table(lengths, f"{name} by prompt length", first=BY_LENGTH[:7])


def _facts(row: Row, records: Sequence[RunRecord]) -> str:
    """Cards with the results of the summary, and with what the run records say about how the steps ran."""
    facts = {
        "Mean TTFT": f"{formatting.with_interval(row, 'ttft_mean_ms')} ms",
        "P99 TTFT": f"{formatting.with_interval(row, 'ttft_p99_ms')} ms",
        "Mean ITL": f"{formatting.with_interval(row, 'itl_request_mean_ms')} ms",
        "TTFT floor, one run": _floor(row, "ttft"),
        "ITL floor, one run": _floor(row, "itl"),
        "Best library for the products of a prefill, one run": f"{formatting.number(row['library_ttft_ms'])} ms",
        "Speedup over baseline (TTFT)": formatting.with_interval(row, "speedup_ttft"),
        "Ready after": f"{formatting.with_interval(row, 'ready_s')} s",
        "Host memory, peak": f"{formatting.with_interval(row, 'host_peak_gib')} GiB",
        "Device memory over idle": f"{formatting.with_interval(row, 'device_over_idle_gib')} GiB",
        "In doubt": formatting.text(row["doubts"]),
        "P99 in doubt": formatting.text(row["p99_doubts"]),
        "Source lines": formatting.count(row["source_lines"]),
        "Equality with the reference": str(row["equivalence"]),
        **{title(name): formatting.number(row[name]) for name in ERRORS},
        "Kernels": _same_in_all(record.kernels for record in records),
        "Decode steps queued ahead": _same_in_all(
            "" if record.ahead is None else str(record.ahead) for record in records
        ),
        "Polls before it blocks": _same_in_all(
            "" if record.spin_us is None else f"{record.spin_us:,} µs" for record in records
        ),
        "CPU time a request, client and generator": _cpu_times(records),
    }
    items = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>"
        for what, value in facts.items()
        if value and not value.startswith(formatting.NO_VALUE)
    )
    return f'<dl class="facts">{items}</dl>'


def _floor(row: Row, metric: str) -> str:
    """`6.48 ms (46 % of the median)`: the floor of `ttft` or `itl` on this device, and floor / median."""
    found, share = formatting.number(row[f"floor_{metric}_ms"]), formatting.percent(row[f"{metric}_share_of_floor"])
    return f"{found} ms ({share} of the median)" if share != formatting.NO_VALUE else formatting.NO_VALUE


def _cpu_times(records: Sequence[RunRecord]) -> str:
    """`12.1 ms and 14.2 ms`, pauses included, over all processes that recorded them."""
    found = [record for record in records if "measured.client_cpu_s" in record.counters]
    requests = sum(record.requests for record in found)
    sides = ("client", "generator")
    total_s = [sum(record.counters[f"measured.{side}_cpu_s"] for record in found) for side in sides]
    return " and ".join(f"{formatting.number(1e3 * side_s / requests)} ms" for side_s in total_s) if requests else ""


def _same_in_all(values: Iterable[str]) -> str:
    """What all processes recorded; where they differ, each value once."""
    return "; ".join(sorted({value for value in values if value}))
