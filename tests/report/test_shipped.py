"""The shipped studies: each report is rendered in a fresh clone, without weights, and everything in it opens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken.files import sha256_file
from firsttoken.pooled_runs import raw_digests, read_records, read_tokens
from firsttoken.report import documents
from firsttoken.study.provenance import read_provenance
from firsttoken.study.shipping import listed_hashes
from firsttoken.yaml_files import read_yaml
from workflow.project import fresh_clone

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.parent.relative_to(REPOSITORY) for path in REPOSITORY.glob("results/reference/*/provenance.json"))
# A report takes a minute and a half: one greedy study with all experiments, one sampled.
RENDERED = [study for study in SHIPPED if study.name in ("llama2-7b-shape-reference", "llama2-7b-shape-sampling-1")]

# Pairs of texts in a drawing that cover one another.
OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll('svg text')]
    .map(text => [text.textContent.trim(), text.getBoundingClientRect()]).filter(([words, box]) => words && box.width);
  if (!boxes.length) return ['no text at all'];
  return boxes.flatMap(([words, a], index) => boxes.slice(index + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
    .map(([other]) => `${words} | ${other}`));
}"""


def test_there_is_a_shipped_study() -> None:
    assert len(RENDERED) == 2


@pytest.mark.parametrize("study", SHIPPED, ids=lambda study: study.name)
def test_a_shipped_study_holds_data_only(study: Path) -> None:
    found = {path for path in (REPOSITORY / study).rglob("*") if path.is_file() and path.name != "report.html"}
    assert len(found) <= 20
    assert {path.suffix for path in found} == {".csv", ".json", ".parquet", ".yaml"}


@pytest.mark.parametrize("study", SHIPPED, ids=lambda study: study.name)
def test_a_shipped_study_can_be_read_and_its_pooled_files_are_those_of_the_provenance(study: Path) -> None:
    folder = REPOSITORY / study
    records, provenance = folder / "records.parquet", read_provenance(folder / "provenance.json")
    assert {record.approach for record in read_records(records)} >= {"baseline", "null", "null_2p"}
    assert all(tokens.prompts for tokens in read_tokens(records) if tokens.approach == "baseline")
    written = {path: digest for job in provenance.jobs for path, digest in job.outputs.items()}
    home = f"results/{provenance.study}"
    assert raw_digests(records).items() <= {(path.removeprefix(f"{home}/"), value) for path, value in written.items()}
    for name in ("samples.parquet", "records.parquet", "tables/equality_positions.csv"):
        assert written[f"{home}/{name}"] == sha256_file(folder / name)


@pytest.mark.parametrize("study", SHIPPED, ids=lambda study: study.name)
def test_the_readme_lists_the_hash_of_a_shipped_provenance(study: Path) -> None:
    listed = listed_hashes(REPOSITORY / "results/reference/README.md")
    assert listed[study.name] == sha256_file(REPOSITORY / study / "provenance.json")


def fastest(printed: str) -> str:
    """The approach with the lowest mean TTFT, as the table that `make report` prints marks it."""
    return str(re.findall(r"^(\S+) \*", printed, re.MULTILINE)[0])


@pytest.mark.workflow
@pytest.mark.browser
@pytest.mark.parametrize("study", RENDERED, ids=lambda study: study.name)
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
    after = {
        path: path.read_bytes() for path in (clone / study).rglob("*") if path.name != "report.html" and path.is_file()
    }
    assert after == before, "making the report leaves the data as they are, and nothing beside them"
    with chromium() as browser:
        page, noise = open_page(browser, clone / study / "report.html", width=1400)
        page.wait_for_selector(".answer")
        top = page.locator(".answer").bounding_box()
        assert top is not None and top["y"] + top["height"] < 900, "the answer is on the first screen"
        measured = read_yaml(clone / study / "config.yaml")["approaches"]
        pages = [name for name in documents.page_names(clone / "report/approaches") if name in measured]
        links = page.locator(".open-pages a").all_inner_texts()
        assert links[: len(pages) + 1] == ["overview", *pages], "the order of the comparison"
        assert sorted(links[len(pages) + 1 :]) == ["claims", "effects", "summary"]
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
            if "/figures/" in path:
                assert page.frames[-1].evaluate(OVERLAPS) == [], path
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
        inside.locator(".table > .scroll th", has_text="TTFT mean").locator("button").click()
        assert inside.locator("tbody th").first.inner_text().startswith(fastest(done.stdout))
        with page.expect_download() as download:
            inside.locator(".download").click()
        assert Path(download.value.path()).read_text().startswith("approach,title,status")
        assert noise.errors == []
        assert noise.requests == []
