"""What `make run` and its like say where nothing is measured: a dry run, a wrong option, a study that is not there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workflow.project import Project, fresh_clone

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with the summary of an earlier study of the same name."""
    project = Project(fresh_clone(tmp_path_factory.mktemp("a clone")))
    tables = project.folder / "results/tiny/tables"
    tables.mkdir(parents=True)
    (tables / "answer.txt").write_text("old results", encoding="utf-8")
    (project.folder / "results/tiny/provenance.json").write_text("{}", encoding="utf-8")
    return project


def make_run(project: Project, *options: str) -> subprocess.CompletedProcess[str]:
    return project.run([sys.executable, "scripts/run.py", *options])


def test_a_dry_run_lists_the_jobs_and_no_results(project: Project) -> None:
    """Seen failing: the results of another model were shown."""
    result = make_run(project, "--config", project.config, "-n")
    assert result.returncode == 0, result.stderr
    assert "Process 1 of baseline: measured\n" in result.stdout
    assert "old results" not in result.stdout and len(result.stdout.splitlines()) < 100


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--report-onl", "x"], "Snakemake's options: "),
        (["--no-such-option"], "Snakemake's options: unrecognized arguments: --no-such-option"),
        (["--gpus", "2"], "GPUS=2: CUDA sees 0 GPUs here; give no more, or leave GPUS out"),
        (["--gpus", "many"], "GPUS=many: CUDA sees 0 GPUs here"),
        (["--summary", "gone"], "STUDY='gone' is no finished study; found in results/: tiny"),
        (["--report-only", "gone"], "STUDY='gone' is no finished study; found in results/: tiny"),
    ],
)
def test_a_mistake_is_one_line(project: Project, options: list[str], said: str) -> None:
    """Seen failing: a list of all of Snakemake's options, and names of folders."""
    result = make_run(project, *options)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(f"firsttoken: {said}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["tiny", "results/tiny"])
def test_the_summary_again(project: Project, name: str) -> None:
    """Seen failing: results/NAME was not taken."""
    assert "old results" in make_run(project, "--summary", name).stdout
