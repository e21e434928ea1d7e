"""The commands of contribute.py where they end early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import contribute
import run
from firsttoken.study.shipping import Contributor

SCRIPTS = Path(__file__).parents[2] / "scripts"
ACCEPT = """
import sys, contribute
contribute.history_problem = lambda root: None  # a clone without history accepts nothing
sys.exit(contribute.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_accept_says_so_in_one_line(number: signal.Signals, tmp_path: Path) -> None:
    """Seen failing: nothing was said. The archive is a pipe that nobody writes to, so that it is still read."""
    archive = tmp_path / "archive.tar.gz"
    os.mkfifo(archive)
    process = subprocess.Popen(
        [sys.executable, "-c", ACCEPT, "--accept", str(archive)], cwd=SCRIPTS, stderr=subprocess.PIPE, text=True
    )
    with archive.open("wb"):  # waits for the reader
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "firsttoken: interrupted; give the same command again\n"


def test_a_shipped_study_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reference" / "demo").mkdir(parents=True)
    monkeypatch.setattr(contribute, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(contribute, "find_study", lambda study, results: tmp_path / study)
    with pytest.raises(ValueError, match="reference/demo: there already; delete it"):
        contribute.ship_study("demo")


def test_a_report_that_fails_says_why_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    report.write_text("earlier")
    fails = "import sys; sys.exit('WorkflowError:\\nFile pages/summary.html does not exist')"
    monkeypatch.setattr(run, "SNAKEMAKE", [sys.executable, "-c", fails])
    assert run.make_report([], report) == 1
    expected = f"firsttoken: the report {report} could not be made: File pages/summary.html does not exist\n"
    assert capfd.readouterr() == ("", expected)
    assert report.read_text() == "earlier" and list(tmp_path.iterdir()) == [report]
    works = "import sys, pathlib; pathlib.Path(sys.argv[-1]).write_text('new')"
    monkeypatch.setattr(run, "SNAKEMAKE", [sys.executable, "-c", works])
    assert run.make_report([], report) == 0 and report.read_text() == "new"


def test_a_damaged_study_does_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: it was shipped, "commit it with: git add"."""
    damage = SimpleNamespace(changed=(), missing=("result results/demo/samples.parquet: missing",))
    monkeypatch.setattr(contribute, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(contribute, "find_study", lambda study, results: tmp_path / study)
    monkeypatch.setattr("firsttoken.study.verification.verify", lambda provenance, root: damage)
    with pytest.raises(ValueError, match=r"samples\.parquet: missing; only what was measured ships"):
        contribute.ship_study("demo")


def test_another_study_in_args_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Seen failing: it ran, and the default study's old figures were shown as its own."""
    monkeypatch.setattr(sys, "argv", ["run.py", "--configfile", "other.yaml"])
    assert run.main() == 1
    assert capsys.readouterr().err.startswith("firsttoken: ARGS: found --configfile, which runs another study; ")


def test_a_config_that_nobody_has_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: after the study had been measured, reported and verified."""
    monkeypatch.setattr(contribute, "uncommitted", lambda root: "")
    monkeypatch.setattr(contribute, "measure", lambda *_: pytest.fail("it was measured"))
    who = Contributor(name="Ada", contact="ada@example.org")
    with pytest.raises(ValueError, match=r"x\.yaml: in no commit, so that nobody could check"):
        contribute.contribute(who, Path("/elsewhere/x.yaml"), [])
    with pytest.raises(ValueError, match="ARGS: found -d, which runs another study"):
        contribute.contribute(who, None, ["-d", "/elsewhere"])
