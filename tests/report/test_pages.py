"""Approach pages and table pages in a browser: wide and 420 pixels, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.study_files import EMBEDDED, make_study
from firsttoken.report import documents
from firsttoken.report.approach_page import OVERVIEW, render_page
from firsttoken.report.table_page import render_table

pytestmark = pytest.mark.browser
PAGES = [OVERVIEW, *documents.page_names(Path(__file__).resolve().parents[2] / "report/approaches")]
# WCAG AA: text against what lies behind it, 4.5 to 1.
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const node of document.querySelectorAll("body *:not(script):not(svg):not(svg *)")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const words = node.textContent.trim().slice(0, 40);
    if (ratio < 4.5) poor.add(`${node.tagName}.${node.className} ${ratio.toFixed(2)} ${words}`);
  }
  return [...poor];
}"""


# Tables and figures in sight that one must scroll sideways to read.
CUT_OFF = """() => [...document.querySelectorAll(".scroll, .plot")]
  .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth).map((box) => box.ariaLabel)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    study = make_study(folder / "study", EMBEDDED, requests=4)
    inputs = study.page_inputs()
    for name in PAGES:
        render_page(name, inputs, folder / f"{name}.html")
    render_table(study.summary, folder / "summary.html", "Summary", assets=inputs.assets)
    render_table(study.latency, folder / "latency.html", "Latency by prompt length", assets=inputs.assets)
    return folder


@pytest.mark.parametrize("width", [420, 1280])
def test_pages_are_quiet_fit_their_width_and_can_be_read(pages: Path, width: int) -> None:
    from report.browser import chromium, open_page, screenshot

    with chromium() as browser:
        for name in [*PAGES, "summary", "latency"]:
            page, noise = open_page(browser, pages / f"{name}.html", width=width)
            assert noise.errors == [] and noise.requests == [], name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (
                f"{name} is wider than {width} pixels"
            )
            assert page.evaluate(CONTRAST) == [], name
            if width == 1280:
                assert page.evaluate(CUT_OFF) == [], name
            assert page.title() and page.locator("h1").count() == 1
            unnamed = page.locator("svg[role=img]:not(:has(title))").count() + page.locator("img:not([alt])").count()
            assert unnamed == 0, name
            screenshot(page, f"{name}-{width}")
            page.close()


@pytest.mark.parametrize("name", ["overview", "summary"])
def test_a_browser_that_prefers_dark_pages_shows_them_light(pages: Path, name: str) -> None:
    from report.browser import chromium, open_page

    with chromium() as browser:
        page, _ = open_page(browser, pages / f"{name}.html", dark=True)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate(CONTRAST) == []


def test_tables_sort_by_number_both_ways_and_keep_gaps_last(pages: Path) -> None:
    from report.browser import chromium, open_page

    with chromium() as browser:
        page, _ = open_page(browser, pages / "summary.html")
        heading = page.locator(".table > .scroll th", has_text="TTFT mean")
        cells = page.locator(".table > .scroll tbody tr th")
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        rising = [text.split()[0] for text in cells.all_inner_texts()]
        heading.locator("button").press("Enter")  # by keyboard
        assert heading.get_attribute("aria-sort") == "descending"
        falling = [text.split()[0] for text in cells.all_inner_texts()]
        assert rising == ["jit_cuda", "cuda_graph", "jit_only", "baseline", "tensorrt_llm"]
        assert falling == ["baseline", "jit_only", "cuda_graph", "jit_cuda", "tensorrt_llm"]


def test_tables_download_the_csv_that_they_show(pages: Path) -> None:
    from report.browser import chromium, open_page

    with chromium() as browser:
        page, _ = open_page(browser, pages / "summary.html")
        with page.expect_download() as download:
            page.locator(".download").click()
        assert download.value.suggested_filename == "summary.csv"
        text = Path(download.value.path()).read_text()
        assert text.splitlines() == (pages / "study/tables/summary.csv").read_text().splitlines()


def test_links_between_pages_work_as_files(pages: Path) -> None:
    from report.browser import chromium, open_page

    with chromium() as browser:
        page, noise = open_page(browser, pages / "overview.html")
        page.locator("nav a", has_text="jit_cuda").click()
        page.wait_for_url("**/jit_cuda.html")
        page.locator("nav a", has_text="overview").click()
        page.wait_for_url("**/overview.html")
        assert noise.errors == []


def test_the_keyboard_reaches_the_content_and_text_can_be_selected(pages: Path) -> None:
    from report.browser import chromium, open_page

    with chromium() as browser:
        page, _ = open_page(browser, pages / "jit_cuda.html")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "overview"
        page.keyboard.press("Control+a")
        selected = page.evaluate("String(getSelection())")
        assert "def generate" in selected and "one compiled call" in selected


def test_in_a_frame_that_nobody_answers_links_say_where_the_page_is(pages: Path, tmp_path: Path) -> None:
    from report.browser import chromium, open_page

    frame = tmp_path / "frame.html"
    frame.write_text(f'<!doctype html><title>f</title><iframe src="{(pages / "overview.html").as_uri()}"></iframe>')
    with chromium() as browser:
        page, noise = open_page(browser, frame)
        inner = page.frames[-1]
        link = inner.locator("nav a", has_text="jit_cuda")
        assert link.get_attribute("title") == "In the report's menu: jit_cuda"
        link.evaluate("node => node.click()")
        assert inner.url.endswith("overview.html")
        assert noise.errors == []
