"""The report's first text: the warning before the answer, the answer before the figures, reST that parses."""

from __future__ import annotations

from pathlib import Path

import pytest
from docutils.core import publish_parts
from msgspec.structs import replace

from fakes.study_files import EMBEDDED, ON_A_GPU, make_study
from firsttoken.pooled_runs import read_records
from firsttoken.report.conditions import read_conditions
from firsttoken.report.formatting import number, with_interval
from firsttoken.report.landing import write_landing
from firsttoken.results import RunRecord

ANSWER = ["The winner is `it`*.", "By |much|_.", "Which means <a lot>."]
WORKLOAD = {"prompt_lengths": [10, 50], "new_tokens": 4, "requests": 20, "repeats": 5}


def landing(folder: Path, statuses: dict[str, str]) -> str:
    study = make_study(folder, statuses, requests=3)
    out = folder / "landing.rst"
    answer = folder / "answer.txt"
    answer.write_text("approach  status\n--------  ------\nbaseline  measured\n\n" + "\n".join(ANSWER) + "\n")
    conditions = read_conditions(study.environment, study.manifest, WORKLOAD, "float32")
    write_landing(answer, study.summary, study.claims, study.records, conditions, out)
    settings = {"report_level": 1, "halt_level": 2}  # an unescaped star or underscore raises here
    return str(publish_parts(out.read_text(), writer="html5", settings_overrides=settings)["body"])


def test_without_a_gpu_the_warning_comes_first(tmp_path: Path) -> None:
    html = landing(tmp_path, EMBEDDED)
    assert (
        html.index("No GPU was used") < html.index("The winner is `it`*.") < html.index("This machine, these minutes")
    )
    assert html.index("The winner is") < html.index("<table")
    assert "<strong>tensorrt_llm</strong> unavailable: the reason why tensorrt_llm is unavailable" in html
    assert "1 thread for" not in html
    assert "random weights" in html
    assert "3 were put to this study: 1 not shown here, 1 refuted, 1 not testable here." in html
    assert "Of 1 claim, the source" in html
    assert "--------" not in html, "the terminal's table does not belong here"


def test_on_a_gpu_there_is_no_warning(tmp_path: Path) -> None:
    html = landing(tmp_path, dict(ON_A_GPU))
    assert "warning" not in html and "mulated" not in html
    assert "This machine, these minutes: one host (NVIDIA H200), measured on 2026-" in html


def test_processes_on_several_gpus_are_said_to_be_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: "one host", whatever the records say."""

    def on_two_gpus(path: Path) -> list[RunRecord]:
        return [replace(record, gpu_uuid=f"GPU-{record.repeat % 2}") for record in read_records(path)]

    monkeypatch.setattr("firsttoken.report.landing.read_records", on_two_gpus)
    html = landing(tmp_path, dict(ON_A_GPU))
    assert "These GPUs, these minutes: 2 (NVIDIA H200), measured on 2026-" in html
    assert "are pooled" in html and "one host" not in html


def test_where_the_gpus_were_not_recorded_no_number_of_hosts_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing: "one host" of a study that was spread over four GPUs."""

    def unrecorded(path: Path) -> list[RunRecord]:
        return [replace(record, gpu_uuid="") for record in read_records(path)]

    monkeypatch.setattr("firsttoken.report.landing.read_records", unrecorded)
    html = landing(tmp_path, dict(ON_A_GPU))
    assert "The records do not say on how many of its GPUs" in html and "one host" not in html


def test_what_is_in_doubt_is_marked_in_its_row_and_explained_below(tmp_path: Path) -> None:
    html = landing(tmp_path, dict(ON_A_GPU))
    assert html.count("(in doubt)") == 1 and "Baseline (in doubt)" in html
    assert html.count("(lowest TTFT)") == 1 and "Compiled_Graph (lowest TTFT)" in html
    assert "<strong>baseline</strong> in doubt: drift over the repeats (TTFT)." in html
    assert "<strong>jit_cuda</strong>: 7 of 90 requests tainted (another compute process on the GPU)." in html


def test_a_failed_approach_shows_its_reason_and_no_number(tmp_path: Path) -> None:
    html = landing(tmp_path, EMBEDDED | {"jit_only": "failed"})
    row = html[html.index("<p><strong>jit_only</strong>") :]
    row = row[: row.index("</tr>")]
    assert "failed" in row
    assert row.count("–") == 5
    assert "<strong>jit_only</strong> failed: the reason why jit_only is failed" in html


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4.2149, "4.21"),
        (1234.5, "1,234"),
        (0.00123, "0.00123"),
        (8.7e-7, "8.70e-7"),
        (0, "0"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_numbers_keep_three_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_an_interval_is_shown_only_where_there_is_one() -> None:
    row = {"a_ms": 2.0, "a_low_ms": 1.9, "a_high_ms": 2.1, "b_ms": 2.0, "b_low_ms": float("nan"), "b_high_ms": None}
    assert with_interval(row, "a_ms") == "2.00 (1.90 to 2.10)"
    assert with_interval(row, "b_ms") == "2.00"
