"""Markup in whatever a config, a model, a claim or a failed run brings into a page is shown, never run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from docutils.core import publish_parts

from fakes.study_files import EMBEDDED, StudyFiles, make_study
from firsttoken.report.approach_page import OVERVIEW, render_page
from firsttoken.report.conditions import read_conditions
from firsttoken.report.figure_page import render_figure
from firsttoken.report.landing import write_landing
from firsttoken.report.record_page import render_record
from firsttoken.report.table_page import render_table

ROOT = Path(__file__).parents[3]
ASSETS = ROOT / "report" / "assets"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onload=alert(3)"
RST = [
    MARKUP,
    "`x <javascript:alert(1)>`_",
    "a\n\n.. raw:: html\n\n   <script>alert(1)</script>\n\nb",
    "|x| *a* **b** ``c`` \\ :raw:`x` x_ javascript:alert(1)",
]
RUNS = re.compile(r"<script>alert|<img src=x|href=\"javascript|' onload=alert\(3\)>")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """A study in which every text of a table but its approaches and statuses is markup."""
    files = make_study(tmp_path_factory.mktemp("marked"), EMBEDDED, requests=3)
    for path in (files.summary, files.latency, files.claims):
        mark(path)
    files.answer.write_text(f"table\n\n{MARKUP}\n{MARKUP}\n{MARKUP}\n", encoding="utf-8")
    return files


def mark(path: Path, text: str = MARKUP) -> None:
    table = pd.read_csv(path)
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]) and column not in ("approach", "status", "id"):
            table[column] = "key insight 1 " + text if column == "source" else text
    table.to_csv(path, index=False)


def check(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "alert(1)" in html, "the page shows none of it"
    assert not (found := RUNS.search(html)), html[found.start() - 60 : found.end() + 60]


@pytest.mark.parametrize("name", [OVERVIEW, "tensorrt_llm", "baseline"])
def test_approach_pages(study: StudyFiles, tmp_path: Path, name: str) -> None:
    render_page(name, study.page_inputs(), tmp_path / "page.html")
    check(tmp_path / "page.html")


def test_tables_records_and_figures(study: StudyFiles, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for table in (study.summary, study.latency, study.claims):
        render_table(table, page, MARKUP, assets=ASSETS, description=MARKUP, below=[(MARKUP, table)])
        check(page)
    record = tmp_path / f"{'<img src=x>'}.json"
    record.write_text(json.dumps({MARKUP: MARKUP, "gpu": {"name": MARKUP, MARKUP: [MARKUP, {"a": MARKUP}]}}))
    render_record(record, page, MARKUP, assets=ASSETS)
    check(page)
    svg = tmp_path / "figure.svg"
    svg.write_text('<svg width="100pt" height="10pt"></svg>')
    render_figure(svg, study.claims, page, MARKUP, assets=ASSETS, caption=MARKUP)
    check(page)


@pytest.mark.parametrize("text", RST)
def test_the_first_page(tmp_path: Path, text: str) -> None:
    study = make_study(tmp_path, EMBEDDED, requests=3)
    for path in (study.summary, study.claims):
        mark(path, text)
    answer, out = tmp_path / "marked.txt", tmp_path / "landing.rst"
    answer.write_text(f"table\n\n{' '.join(text.split())}\n", encoding="utf-8")
    workload = {"prompt_lengths": [10], "new_tokens": 4, "requests": 20, "repeats": 5}
    conditions = read_conditions(study.environment, study.manifest, workload, text)
    write_landing(answer, study.summary, study.claims, study.records, conditions, out)
    settings = {"report_level": 1, "halt_level": 2}
    html = str(publish_parts(out.read_text(), writer="html5", settings_overrides=settings)["body"])
    assert not (found := RUNS.search(html)), html[found.start() - 60 : found.end() + 60]
