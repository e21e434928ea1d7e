"""Gates in real runs: each ends the run with one line, after the evidence is on disk, and passes where it should."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures_samples import Known, analyse, make_study
from workflow.project import Project, fresh_clone

pytestmark = pytest.mark.workflow
TINY = "results/tiny"
HIGHER_FLOORS = """

_floor = floor


def floor(*arguments):
    import msgspec

    found = _floor(*arguments)
    return msgspec.structs.replace(found, ttft_ms=1e6 * found.ttft_ms)
"""
OUT_OF_LUCK = """

def _fail(self, model_dir, plan):
    raise RuntimeError("out of luck")


JitOnly.load = _fail
"""
OTHER_TOKENS = """

_generate = JitOnly.generate
JitOnly.generate = lambda self, ids, n, sink: _generate(self, ids[::-1], n, sink)
"""


def log(project: Project, gate: str) -> str:
    return (project.folder / TINY / f"gates/{gate}.log").read_text(encoding="utf-8")


def table(project: Project, name: str) -> dict[str, dict[str, str]]:
    with (project.folder / TINY / f"tables/{name}.csv").open(encoding="utf-8") as stream:
        return {row["approach"]: row for row in csv.DictReader(stream)}


def gates_passed(project: Project) -> set[str]:
    return {path.name for path in (project.folder / TINY / "gates").iterdir() if not path.suffix}


def test_a_failed_approach_and_a_median_below_its_floor_fail_the_study_and_leave_their_evidence(
    project: Project,
) -> None:
    project.append("scripts/firsttoken/approaches/jit_only.py", OUT_OF_LUCK)
    project.append("scripts/firsttoken/measure/latency_floor.py", HIGHER_FLOORS)
    assert project.snakemake("--keep-going").returncode != 0
    assert gates_passed(project) == {"equality"}
    assert "out of luck" in log(project, "status")
    assert "at 6 tokens: median TTFT of baseline" in log(project, "floors")
    assert float(table(project, "latency_by_length")["baseline"]["ttft_share_of_floor"]) > 1
    rows = table(project, "summary")
    assert (rows["jit_only"]["status"], rows["jit_only"]["ttft_mean_ms"]) == ("failed", "")
    assert "out of luck" in rows["jit_only"]["reason"]
    assert float(rows["baseline"]["ttft_mean_ms"]) > 0, "the evidence is kept"
    assert (project.folder / TINY / "provenance.json").exists()


def test_another_function_fails_the_study_also_after_an_interruption(project: Project) -> None:
    """Seen failing: the tables were new, the old gates stayed, and the study ended as one that passed."""
    project.append("scripts/firsttoken/approaches/jit_only.py", OTHER_TOKENS)
    assert project.snakemake("--", f"{TINY}/tables/summary.csv").returncode == 0  # no further, as if killed
    assert gates_passed(project) == {"equality", "floors", "status"}, "those of the time before"
    assert project.snakemake("--keep-going").returncode != 0
    assert "jit_only: prompt" in log(project, "equality")
    assert gates_passed(project) == {"floors"}, "its status is failed too"
    assert table(project, "equivalence")["jit_only"]["verdict"] == "different"
    row = table(project, "summary")["jit_only"]
    assert (row["status"], row["ttft_mean_ms"]) == ("failed", "")
    assert (project.folder / TINY / "raw/jit_only/1.parquet").exists(), "the samples are kept"


def test_a_file_that_is_not_what_its_job_wrote_ends_the_next_run_with_one_line(project: Project) -> None:
    path = f"{TINY}/raw/baseline/2.parquet"
    with (project.folder / path).open("r+b") as samples:
        samples.truncate(1000)
    result = project.snakemake()
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].startswith(f"firsttoken: {path}: not the bytes that its job wrote; delete it")
    (project.folder / path).unlink()
    assert project.dry_run().runs == {("baseline", 2)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three finished studies of known latencies, `after` slower than `before`."""
    folder = fresh_clone(tmp_path_factory.mktemp("compared"))
    for name, ttft_ms, seed in (("before", 20.0, 1), ("again", 20.0, 2), ("after", 26.0, 3)):
        study = analyse(make_study(folder / "results" / name, {"baseline": Known(ttft_ms)}, requests=40, seed=seed))
        (study.root / "provenance.json").write_text("{}", encoding="utf-8")
    return folder


def compare(clone: Path, *studies: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/run.py", "--compare", *studies]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=300)


def test_a_regression_fails_a_comparison_and_leaves_its_page(clone: Path) -> None:
    result = compare(clone, "before", "after")
    assert result.returncode != 0
    folder = clone / "results/compare/before_vs_after"
    assert "after compared with before: regression" in result.stdout
    assert "baseline TTFT mean at 10 tokens takes 1." in result.stdout
    assert (folder / "comparison.csv").exists()
    assert "beyond 5%: baseline TTFT mean" in (folder / "comparison.html").read_text(encoding="utf-8")


def test_the_same_again_passes(clone: Path) -> None:
    result = compare(clone, "before", "again")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "again compared with before: no regression" in result.stdout
    assert (clone / "results/compare/before_vs_again/comparison.md").exists()


@pytest.mark.parametrize(("studies", "word"), [(("before", "gone"), "B='gone'"), (("", ""), "A=''")])
def test_what_is_not_there_is_not_compared(clone: Path, studies: tuple[str, str], word: str) -> None:
    result = compare(clone, *studies)
    assert result.returncode == 1
    assert result.stderr.startswith("firsttoken: compare: ") and word in result.stderr
    assert "found in results/: after, again, before" in result.stderr


def test_a_study_that_is_yet_to_run_can_be_one_of_the_pair(clone: Path) -> None:
    """The comparison comes behind the study's own provenance."""
    config = (clone / "config/studies/tiny.yaml").read_text(encoding="utf-8")
    (clone / "compared.yaml").write_text(f"{config}compare: [{{a: before, b: tiny}}]\n", encoding="utf-8")
    jobs = Project(clone, config="compared.yaml").dry_run().rules
    assert jobs["compare_studies"] == jobs["gate_regression"] == jobs["render_comparison"] == 1
    assert jobs["write_provenance"] == 1
