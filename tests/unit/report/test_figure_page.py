"""A figure's page: the drawing as it is, and all of its data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from fakes.study_files import make_study
from firsttoken.analysis.figures.base import plot
from firsttoken.report.figure_page import MOST_BYTES, MOST_ROWS, render_figure

ASSETS = Path(__file__).resolve().parents[3] / "report/assets"


def test_the_page_holds_the_drawing_and_all_data(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", requests=4)
    svg, csv, page = tmp_path / "e.svg", tmp_path / "e.csv", tmp_path / "e.html"
    plot("latency_ecdf", study.figure_inputs("latency_ecdf"), svg, csv)
    render_figure(svg, csv, page, "Distribution", assets=ASSETS, caption="What <it> shows.")
    html = page.read_text()
    assert "<?xml" not in html and "<!DOCTYPE svg" not in html
    assert "jit_cuda (emulated)" in html
    assert "What &lt;it&gt; shows." in html
    assert html.count("<tr>") == MOST_ROWS + 1
    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == csv.read_text()


def test_a_page_stays_small_enough_to_be_opened_in_the_report(tmp_path: Path) -> None:
    """Seen failing: the launches of a model of 32 layers gave a page that Chromium left blank."""
    svg, csv, page = tmp_path / "figures" / "e.svg", tmp_path / "figures" / "e.csv", tmp_path / "e.html"
    svg.parent.mkdir()
    svg.write_text('<svg width="10pt" height="10pt"></svg>')
    pd.DataFrame({"name": ['a "kernel"' * 20] * (MOST_BYTES // 200)}).to_csv(csv, index=False)
    render_figure(svg, csv, page, "T", assets=ASSETS, caption="")
    assert page.stat().st_size < 200_000
    assert "the first 60 of 7,500 rows; the whole is figures/e.csv" in page.read_text()


def test_a_file_that_is_no_svg_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.svg").write_text("nothing")
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "e.csv")
    with pytest.raises(ValueError, match=r"e\.svg: no <svg>"):
        render_figure(tmp_path / "e.svg", tmp_path / "e.csv", tmp_path / "e.html", "T", assets=ASSETS, caption="")
