"""Approach pages: every named function exists, every status is told, and the drawing agrees with what runs."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from fakes.study_files import EMBEDDED, ON_A_GPU, make_study
from firsttoken.report import documents
from firsttoken.report.approach_page import OVERVIEW, measured, render_page
from firsttoken.report.documents import PageInputs
from firsttoken.report.excerpts import SourceMissingError

TEMPLATES = Path(__file__).resolve().parents[3] / "report/approaches"
APPROACHES = [
    "baseline", "cuda_graph", "jit_only", "jit_cuda", "tensorrt_llm", "compiled_graph", "compiled_graph_int8", "vllm",
    "llama_cpp",
]  # fmt: skip


def inputs_for(folder: Path, statuses: dict[str, str]) -> PageInputs:
    return make_study(folder, statuses, requests=4).page_inputs()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> PageInputs:
    return inputs_for(tmp_path_factory.mktemp("study"), EMBEDDED)


def test_every_approach_has_a_page_in_the_order_of_the_comparison() -> None:
    assert documents.page_names(TEMPLATES) == APPROACHES


@pytest.mark.parametrize("name", [*APPROACHES, OVERVIEW])
def test_a_page_renders_with_the_code_as_it_is(name: str, inputs: PageInputs, tmp_path: Path) -> None:
    page = tmp_path / f"{name}.html"
    render_page(name, inputs, page)
    html = page.read_text()
    asked = re.findall(r'source\("([^"]+)"\)', (TEMPLATES / f"{name}.md.j2").read_text())
    assert html.count('<details class="source"') == len(asked)
    assert bool(asked) == (name != OVERVIEW)
    assert "SLOT-" not in html
    assert f'<a href="{name}.html" aria-current="page">' in html
    for other in [*APPROACHES, OVERVIEW]:
        assert f'href="{other}.html"' in html, f"{name} has no way to {other}"


@pytest.mark.parametrize("name", [*APPROACHES, OVERVIEW])
def test_a_page_asks_for_nothing_outside_itself(name: str, inputs: PageInputs, tmp_path: Path) -> None:
    render_page(name, inputs, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert not re.search(r'(src|href)="(https?:)?//', html)
    assert not re.search(r"<link[^>]+stylesheet|<script[^>]+src|@import|url\((?!#)", html)


def test_a_renamed_function_is_an_error_that_names_page_and_function(inputs: PageInputs, tmp_path: Path) -> None:
    package = tmp_path / "firsttoken"
    shutil.copytree(inputs.package, package, ignore=shutil.ignore_patterns("__pycache__"))
    engine = package / "engine/loop.py"
    engine.write_text(engine.read_text().replace("def _prefill(", "def _fill_in("))
    with pytest.raises(SourceMissingError, match=r"jit_cuda\.md\.j2.*LoopEngine\._prefill.*_fill_in"):
        render_page("jit_cuda", replace(inputs, package=package), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_an_excerpt_names_file_and_lines(inputs: PageInputs, tmp_path: Path) -> None:
    render_page("jit_cuda", inputs, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    place = re.search(r"firsttoken/engine/loop\.py, lines (\d+) to (\d+)", html)
    assert place is not None
    lines = (inputs.package / "engine/loop.py").read_text().splitlines()
    first, last = (int(number) for number in place.groups())
    assert lines[first - 1].lstrip().startswith("def ")
    assert last > first


def test_measured_says_what_became_of_the_approach(inputs: PageInputs, tmp_path: Path) -> None:
    assert "emulated" in measured("jit_cuda", inputs)
    assert "are not CUDA graph figures" in measured("jit_cuda", inputs)
    assert "emulated" not in measured("baseline", inputs)
    unavailable = measured("tensorrt_llm", inputs)
    assert "the reason why tensorrt_llm is unavailable" in unavailable and "<table" not in unavailable
    assert "was not in the study toy" in measured("compiled_graph", inputs)
    failed = inputs_for(tmp_path / "failed", EMBEDDED | {"jit_only": "failed"})
    assert "latencies are not shown" in measured("jit_only", failed) and "<table" not in measured("jit_only", failed)
    on_gpu = inputs_for(tmp_path / "gpu", dict(ON_A_GPU))
    assert "measured in this study" in measured("compiled_graph", on_gpu)
    assert "Device memory" not in measured("baseline", inputs)


def test_what_the_run_records_say_of_the_steps_is_shown(inputs: PageInputs) -> None:
    told = tuple(msgspec.structs.replace(record, ahead=0, kernels="triton") for record in inputs.records)
    html = measured("jit_cuda", replace(inputs, records=told))
    assert "<dt>Kernels</dt><dd>triton</dd>" in html
    assert "<dt>Decode steps queued ahead</dt><dd>0</dd>" in html
    untold = tuple(msgspec.structs.replace(record, ahead=None, kernels="") for record in inputs.records)
    html = measured("jit_cuda", replace(inputs, records=untold))
    assert "queued ahead" not in html and "Polls" not in html and "CPU time" not in html


def test_how_long_both_processes_poll_is_shown_beside_the_cpu_time_that_it_takes(inputs: PageInputs) -> None:
    cpu = {"measured.client_cpu_s": 0.5, "measured.generator_cpu_s": 1.5}
    told = tuple(
        msgspec.structs.replace(record, spin_us=50_000, counters=cpu, requests=100) for record in inputs.records
    )
    html = measured("jit_cuda", replace(inputs, records=told))
    assert "<dt>Polls before it blocks</dt><dd>50,000 µs</dd>" in html
    assert "<dt>CPU time a request, client and generator</dt><dd>5.00 ms and 15.0 ms</dd>" in html


def test_the_overview_shows_status_beside_every_number(inputs: PageInputs, tmp_path: Path) -> None:
    render_page(OVERVIEW, inputs, tmp_path / "overview.html")
    html = (tmp_path / "overview.html").read_text()
    results = html[html.index('data-name="results"') : html.index("Key insights")]
    assert results.count('<span class="badge emulated">emulated</span>') == 4, (
        "of two rows, in the table and in what is folded below it"
    )
    insights = html[html.index("Key insights") : html.index("<h2>Architectures")]
    assert insights.count('<span class="number">Insight') == 2 and "Insight 1" in insights
    assert insights.count("<li><em>") == 3 and "<em>P99 &lt;of&gt; TTFT</em>: One sentence" in insights
    assert '<span class="badge not-shown-here">not shown here</span>' in insights
    assert insights.count("It contradicts its own source.") == 2
    assert insights.count("Other conditions than the source's: GPU X (source: Y).") == 1
    assert "page of claims</a>: 1." in insights
    assert 'href="../pages/claims.html"' in insights
    controls = ("eager_loop", "cuda_graph_1p", "cuda_graph_published_ops", "static_compile")
    for control in (*controls, "tensorrt_llm_nograph", "tensorrt_llm_pytorch", "null_2p"):
        assert f"<strong>{control}</strong>" in html


def test_the_overview_gives_the_answer_before_anything_else(inputs: PageInputs, tmp_path: Path) -> None:
    render_page(OVERVIEW, inputs, tmp_path / "overview.html")
    html = (tmp_path / "overview.html").read_text()
    answer = html[html.index('<div class="answer">') :].split("</div>")[0]
    assert answer.count("<p>") == 3 and "<p>The &lt;first&gt; sentence.</p>" in answer
    assert html.index('<div class="answer">') < html.index("<table") < html.index('<figure class="diagram"')


@pytest.mark.parametrize("name", APPROACHES)
def test_a_page_says_what_it_is_in_two_sentences_and_what_it_gave_before_the_code(name: str) -> None:
    template = documents.read_template(TEMPLATES, name)
    assert len(re.findall(r"[.](?=\s|$)", template.meta["summary"].strip())) == 2
    headings = re.findall(r"^## (.*)$", template.body, re.MULTILINE)
    assert headings[-4:] == [
        "What it costs, when to use it",
        "What was measured",
        "The path of one token",
        "Neighbours",
    ]


def test_a_value_that_is_missing_keeps_its_reason(inputs: PageInputs, tmp_path: Path) -> None:
    latency = pd.read_csv(inputs.latency_csv)
    latency = latency.assign(ttft_p99_ms=float("nan"), ttft_p99_low_ms=float("nan"), ttft_p99_high_ms=float("nan"))
    latency.assign(ttft_p99_note="n too small").to_csv(tmp_path / "latency.csv", index=False)
    html = measured("baseline", replace(inputs, latency_csv=tmp_path / "latency.csv"))
    assert "TTFT P99, ms" in html and "<small>n too small</small>" in html
    assert "P99 low" not in html and "P99 note" not in html


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no front matter", "front matter"),
        ("---\nplace: 1\n---\n{{ nonsense }}", "nonsense"),
        ("---\n- a list\n---\n", "no mapping"),
    ],
)
def test_a_broken_template_is_named(text: str, message: str, inputs: PageInputs, tmp_path: Path) -> None:
    (tmp_path / "odd.md.j2").write_text(text)
    with pytest.raises(ValueError, match=rf"odd\.md\.j2.*{message}"):
        documents.render_markdown(documents.read_template(tmp_path, "odd"), {}, documents.Slots())


def test_an_unknown_page_is_named(inputs: PageInputs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nobody\.md\.j2: no such page; there are baseline, cuda_graph"):
        render_page("nobody", inputs, tmp_path / "page.html")
