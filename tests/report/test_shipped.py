"""The shipped studies: each report is rendered in a fresh clone, without weights, and everything in it opens."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken.report import documents
from workflow.project import fresh_clone

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.parent.relative_to(REPOSITORY) for path in REPOSITORY.glob("results/reference/*/provenance.json"))


def fastest(study: Path) -> str:
    """The approach with the lowest mean TTFT in the study's summary."""
    with (study / "tables/summary.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["ttft_mean_ms"]]
    return min(rows, key=lambda row: float(row["ttft_mean_ms"]))["approach"]


def test_there_is_a_shipped_study() -> None:
    assert SHIPPED


@pytest.mark.parametrize("study", SHIPPED, ids=lambda study: study.name)
def test_make_summary_prints_the_table_and_the_three_sentences_again(study: Path) -> None:
    command = ["make", "--silent", "--old-file=.venv/.installed", "VENV=.venv", "summary", f"STUDY={study}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == (REPOSITORY / study / "tables/answer.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("study", SHIPPED, ids=lambda study: study.name)
def test_every_link_of_a_page_leads_to_a_page(study: Path) -> None:
    pages = [*(REPOSITORY / study).glob("approaches/*.html"), *(REPOSITORY / study).glob("pages/*.html")]
    links = {(page, link) for page in pages for link in re.findall(r'<a [^>]*href="([^"#]+)"', page.read_text("utf-8"))}
    assert len(links) > 40
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.workflow
@pytest.mark.browser
@pytest.mark.parametrize("study", SHIPPED, ids=lambda study: study.name)
def test_a_shipped_study_gives_its_report_and_every_item_of_it_opens(study: Path, tmp_path: Path) -> None:
    from report.browser import chromium, open_page

    clone = fresh_clone(tmp_path / "a clone")
    shutil.copytree(REPOSITORY / study, clone / study, ignore=shutil.ignore_patterns("report.html"))
    before = {path: path.read_bytes() for path in (clone / study).rglob("*") if path.is_file()}
    command = [sys.executable, "scripts/run.py", "--report-only", str(study)]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "This means: " in done.stdout, "the answer, on the terminal too"
    assert not (clone / "results/models").exists()
    assert all(path.read_bytes() == content for path, content in before.items()), "rendering changes no result"
    with chromium() as browser:
        page, noise = open_page(browser, clone / study / "report.html", width=1400)
        page.wait_for_selector(".answer")
        top = page.locator(".answer").bounding_box()
        assert top is not None and top["y"] + top["height"] < 900, "the answer is on the first screen"
        assert page.locator(".open-pages a").all_inner_texts() == [
            "overview", *documents.page_names(clone / "report/approaches"), "summary", "claims"
        ], "the order of the comparison"  # fmt: skip
        paths = page.evaluate("Object.keys(results).filter(path => path.endsWith('.html'))")
        assert len(paths) > 20
        for path in paths:
            page.evaluate(
                "path => app.setView({content: 'html', contentPath: results[path].data_uri, resultPath: path})", path
            )
            page.wait_for_function(
                "name => (document.querySelector('iframe') || {src: ''}).src.includes(`filename=${name}`)",
                arg=Path(path).name,
            )
            page.frames[-1].wait_for_selector("h1")
        page.reload()
        page.locator(".open-pages a", has_text="overview").click()
        page.wait_for_selector("iframe")
        page.frames[-1].locator("a:not(.asleep)", has_text="page of claims").click()
        page.wait_for_function("document.querySelector('iframe').src.includes('filename=claims.html')")
        page.reload()
        page.locator("nav").get_by_text("Summary", exact=True).click()
        page.locator("nav table a").first.click()
        page.wait_for_selector("iframe")
        inside = page.frames[-1]
        inside.locator("th", has_text="TTFT mean").locator("button").click()
        assert inside.locator("tbody th").first.inner_text().startswith(fastest(clone / study))
        with page.expect_download() as download:
            inside.locator(".download").click()
        assert Path(download.value.path()).read_text() == (clone / study / "tables/summary.csv").read_text()
        assert noise.errors == []
        assert noise.requests == []
