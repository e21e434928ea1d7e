"""What a killed run left is removed by the next; nothing of a live run is, wherever it lives."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken.private_folder import KERNEL
from firsttoken.study.runs import VARIABLE, begin_run, run_has_ended

SCRIPTS = Path(__file__).parents[3] / "scripts"
RUN = """
import sys
from pathlib import Path
from firsttoken.study.runs import begin_run
run = begin_run(Path("snakemake-temporary"), Path("results/tiny"))
lock = Path(".snakemake/locks/0.output.lock")
lock.parent.mkdir(exist_ok=True)
lock.touch()
print("ready", flush=True)
sys.stdin.read()
lock.unlink()
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, in which the test works."""
    monkeypatch.setenv(VARIABLE, "")  # put back at the end
    monkeypatch.delenv(VARIABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start_run() -> subprocess.Popen[str]:
    """A process that runs here and has Snakemake's lock."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", RUN]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert run.stdout is not None and run.stdout.readline() == "ready\n"
    return run


def locks() -> list[Path]:
    return list(Path(".snakemake/locks").glob("*"))


def test_a_killed_runs_lock_and_leftovers_go(capsys: pytest.CaptureFixture[str]) -> None:
    half = Path("results/tiny/raw/null/.firsttoken-abc-1.parquet")
    script = Path(".snakemake/scripts/tmpabc.py")
    model = Path("results/models/.firsttoken-synthetic-1")
    download = Path("results/models/hub-1.partial")
    temporary = Path("snakemake-temporary")  # Snakemake's own
    for folder in (model, download, temporary, half.parent, script.parent):
        folder.mkdir(parents=True)
    for file in (half, script, model / "config.json", download / "config.json"):
        file.touch()
    with start_run() as run:
        run.send_signal(signal.SIGKILL)
    assert locks()
    mine = begin_run(Path("mine"), Path("results/tiny"))
    assert not locks()
    assert capsys.readouterr().err == "firsttoken: removed the lock of a run that was killed\n"
    assert not any(path.exists() for path in (half, script, model, temporary))
    assert (download / "config.json").exists(), "a download goes on where it stopped"
    assert [path.name for path in Path(".snakemake").glob("firsttoken-*")] == [mine.path.name]
    mine.cleanup()


def test_nothing_of_a_live_run_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    half = Path("results/tiny/.firsttoken-abc-samples.parquet")
    half.parent.mkdir(parents=True)
    half.touch()
    with start_run() as killed:
        killed.send_signal(signal.SIGKILL)
    with start_run() as run:
        half.touch()
        capsys.readouterr()
        begin_run(Path("mine"), Path("results/tiny")).cleanup()
        said = capsys.readouterr().err
        assert locks() and half.exists()
        assert f"locked by process {run.pid} on" in said
        assert "if that run is dead: rm -r .snakemake/firsttoken-run" in said
        assert said.endswith(f" && {sys.executable} -m snakemake --unlock\n"), "one line to paste"
        assert said.count("\n") == 1 and len(said) <= 300
        run.communicate("")
    assert not locks()


def test_another_kernels_run_is_taken_to_be_alive(capsys: pytest.CaptureFixture[str]) -> None:
    """Another host on a shared file system, or this one before it was restarted."""
    other = Path(f".snakemake/firsttoken-run-{KERNEL[::-1]}x-abcdefgh")
    other.mkdir(parents=True)
    (other / "holder.txt").write_text("process 7 on node12, since 2026-01-01 10:00:00")
    with start_run() as killed:
        killed.send_signal(signal.SIGKILL)
    capsys.readouterr()
    begin_run(Path("mine"), Path("results/tiny")).cleanup()
    assert locks()
    assert "process 7 on node12, since 2026-01-01 10:00:00" in capsys.readouterr().err


def test_a_lock_of_nobody_known_stays(capsys: pytest.CaptureFixture[str]) -> None:
    lock = Path(".snakemake/locks/0.input.lock")
    lock.parent.mkdir(parents=True)
    lock.touch()
    begin_run(Path("mine"), Path("results/tiny")).cleanup()
    assert lock.exists()
    assert "snakemake --unlock" in capsys.readouterr().err


def test_a_job_knows_that_its_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run_has_ended(), "no run around it"
    with start_run() as run:
        (folder,) = Path(".snakemake").glob("firsttoken-run-*")
        monkeypatch.setenv(VARIABLE, str(folder.absolute()))
        assert not run_has_ended()
        run.send_signal(signal.SIGKILL)
    assert run_has_ended()
    folder.rename(folder.with_name(f"firsttoken-run-{KERNEL[::-1]}x-abcdefgh"))
    monkeypatch.setenv(VARIABLE, str(folder.with_name(f"firsttoken-run-{KERNEL[::-1]}x-abcdefgh")))
    assert not run_has_ended(), "a job on another host cannot tell"


def test_storage_without_room_is_named() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"^\.: file too large; files must be written there"):
            begin_run(Path("mine"), Path("results/tiny"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(Path.cwd().iterdir()) == []
