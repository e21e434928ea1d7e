"""Snakemake's report with this project's landing text, captions and style, as a reader without a network opens it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fakes.study_files import make_study
from firsttoken.analysis.figures.base import plot
from firsttoken.report.approach_page import render_page
from firsttoken.report.conditions import read_conditions
from firsttoken.report.landing import write_landing

REPOSITORY = Path(__file__).resolve().parents[2]
CATEGORIES = ["Approaches", "Claims", "Environment", "Latency", "Memory", "Summary"]
ANSWER = ["Nothing was measured on a GPU.", "baseline won with TTFT of 4.2 ms.", "That <means> *little* for a_GPU."]
WORKLOAD = {"prompt_lengths": [10, 50], "new_tokens": 4, "requests": 20, "repeats": 5}
SNAKEFILE = """
config["study"] = "toy"
config["approaches"] = ["baseline"]
config["workload"] = {"requests": 20, "repeats": 5, "prompt_lengths": [10, 50], "new_tokens": 4}
report: "REPORT/workflow.rst"
CAPTIONS = "REPORT/captions/"
CATEGORIES = {CATEGORIES}

rule all:
    input:
        expand("results/{{study}}/figures/{{category}}.svg", study="toy", category=CATEGORIES),
        expand("results/{{study}}/approaches/{{page}}.html", study="toy", page=["overview", "baseline"]),

rule copy_figure:
    input: "ttft.svg"
    output:
        report("results/{{study}}/figures/{{category}}.svg", caption=CAPTIONS + "CAPTION.rst",
               category="{{category}}", labels={{"Figure": "TTFT by prompt length"}})
    shell: "cp {{input}} {{output}}"

rule copy_page:
    input: "{{page}}.html"
    output:
        report("results/{{study}}/approaches/{{page}}.html", caption=CAPTIONS + "approach_page.rst",
               category="Approaches", labels={{"item": "{{page}}"}})
    shell: "cp {{input}} {{output}}"
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with a space in its name, in which a toy workflow has run on a synthetic study."""
    folder = tmp_path_factory.mktemp("toy report")
    study = make_study(folder / "study")
    plot("ttft_by_length", study.figure_inputs("ttft_by_length"), folder / "ttft.svg", folder / "ttft.csv")
    landing = folder / "results/toy/tables/landing.rst"
    study.answer.write_text("\n\n".join(["a table", "\n".join(ANSWER)]))
    conditions = read_conditions(study.environment, study.manifest, WORKLOAD, "float32")
    write_landing(study.answer, study.summary, study.claims, study.records, conditions, landing)
    for page in ("overview", "baseline"):
        render_page(page, study.page_inputs(), folder / f"{page}.html")
    text = SNAKEFILE.replace("{CATEGORIES}", str(CATEGORIES)).replace("REPORT", str(REPOSITORY / "report"))
    (folder / "Snakefile").write_text(
        text.replace("{{", "{").replace("}}", "}").replace("CAPTION.rst", "ttft_by_length.rst")
    )
    snakemake(folder, "--cores", "1", "--quiet", "all")
    return folder


@pytest.fixture(scope="module")
def report(workdir: Path) -> Path:
    snakemake(workdir, "--report", "report.html", "--report-stylesheet", str(REPOSITORY / "report/report.css"))
    return workdir / "report.html"


def snakemake(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "docutils" not in done.stderr.lower() and "system message" not in done.stderr.lower()


@pytest.mark.workflow
@pytest.mark.browser
def test_the_report_opens_offline_with_every_category_and_without_an_error(report: Path) -> None:
    from report.browser import chromium, open_page, screenshot

    with chromium() as browser:
        page, noise = open_page(browser, report)
        page.wait_for_selector("nav")
        for category in CATEGORIES:
            assert page.locator("nav").get_by_text(category, exact=True).count() == 1, category
        landing = page.locator("#app").inner_text()
        assert landing.index(ANSWER[2]) < landing.index("Start here:") < landing.index("Next token, ms")
        screenshot(page, "report-landing")
        table = page.locator("#app .prose table").bounding_box()
        assert table is not None and table["x"] + table["width"] <= 1280
        for words in [*ANSWER, "Emulated: jit_cuda, cuda_graph", "A CPU with <angles> & *stars*", "Machine."]:
            assert words in landing, words
        assert landing.index("No GPU was used") < landing.index(ANSWER[1])
        page.locator("nav").get_by_text("Latency", exact=True).click()
        page.locator("nav table a").first.click()
        page.wait_for_selector("img[src^='data:image/svg']")
        screenshot(page, "report-figure")
        assert noise.errors == []
        assert noise.requests == []
        narrow, _ = open_page(browser, report, width=420)
        narrow.wait_for_selector(".answer")
        narrow.wait_for_function("document.querySelector('nav').getBoundingClientRect().width < 1")
        screenshot(narrow, "report-landing-narrow")
        answer = narrow.locator(".answer").bounding_box()
        assert answer is not None and answer["x"] + answer["width"] <= 420, "not under the menu, not cut off"


@pytest.mark.workflow
@pytest.mark.browser
def test_the_landing_text_leads_to_the_pages_and_the_pages_to_each_other(report: Path) -> None:
    from report.browser import chromium, open_page, screenshot

    with chromium() as browser:
        page, noise = open_page(browser, report)
        assert page.locator(".open-pages a").all_inner_texts() == ["overview", "baseline"]
        page.locator(".open-pages a", has_text="overview").click()
        page.wait_for_selector("iframe")
        frame = page.frames[-1]
        assert frame.locator("h1").inner_text() == "Overview"
        screenshot(page, "report-overview")
        frame.locator("nav a:not(.asleep)", has_text="baseline").click()
        page.wait_for_function("document.querySelector('iframe').src.includes('filename=baseline.html')")
        frame = page.frames[-1]
        frame.wait_for_selector("h1")
        assert frame.locator("h1").inner_text().startswith("baseline: ")
        assert frame.locator("nav a.asleep", has_text="jit_cuda").count() == 1, "a page that the report lacks"
        assert noise.errors == []
        assert noise.requests == []


@pytest.mark.workflow
def test_the_landing_text_is_read_when_the_report_is_rendered(workdir: Path) -> None:
    landing = workdir / "results/toy/tables/landing.rst"
    before = landing.read_text()
    landing.write_text("Words that came after the run.\n")
    try:
        snakemake(workdir, "--report", "later.html")
    finally:
        landing.write_text(before)
    assert "Words that came after the run." in (workdir / "later.html").read_text()


def test_captions_name_no_directive_that_the_report_does_not_know() -> None:
    captions = sorted((REPOSITORY / "report/captions").rglob("*.rst"))
    assert len(captions) > 10
    for caption in captions:
        assert caption.read_text().strip(), f"{caption} is empty"
        assert ".. " not in caption.read_text()
