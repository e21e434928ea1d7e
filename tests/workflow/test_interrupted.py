"""Ctrl-C and kill in the middle of a run: nothing is left behind, and the same command goes on from there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from workflow.project import Project

pytestmark = pytest.mark.workflow

RAW = "results/tiny/raw/cuda_graph"
# Of the finished study's tokens, so that only the runs are measured again.
LONG = """\
study: tiny
threads: 2
approaches: [cuda_graph]
workload: {prompt_lengths: [6, 12], new_tokens: 3, requests: 100000, repeats: 1, prompts_per_length: 2}
experiments: []
"""


def start(project: Project, temporary: Path, background: bool) -> subprocess.Popen[bytes]:
    """Start the study in a session of its own, as a terminal would, with temporary folders of its own; in the
    `background` as a script's `&` does, which ignores Ctrl-C."""
    temporary.mkdir()
    (project.folder / "config/studies/tiny.yaml").write_text(LONG, encoding="utf-8")
    shutil.rmtree(project.folder / RAW)  # else Snakemake puts back what was there before
    return subprocess.Popen(
        [sys.executable, "scripts/run.py", "--config", project.config],
        cwd=project.folder,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL),
    )


def wait_for_generator(top: psutil.Process, seconds: float = 180) -> psutil.Process:
    """The generator process below `top`, once it measures (its parent has gone through its warm-up)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child in top.children(recursive=True):
            try:
                if "firsttoken.server.server" in child.cmdline():
                    time.sleep(8)  # past loading, into the requests
                    return child
            except psutil.NoSuchProcess:
                continue
        assert top.is_running(), "the run ended before its generator started"
        time.sleep(0.2)
    raise AssertionError("no generator process appeared")


def left_over(folder: Path) -> list[str]:
    """Processes that still work in the folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            if process.cwd().startswith(str(folder)):
                found.append(" ".join(process.info["cmdline"] or []))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.parametrize(
    ("number", "background"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGKILL, True)],
    ids=["Ctrl-C", "kill", "kill in the background", "kill -9 in the background"],
)
def test_interrupted_and_continued(project: Project, number: signal.Signals, background: bool, tmp_path: Path) -> None:
    """Seen failing: the sockets' folders of another run on this machine, counted as left behind by this one."""
    temporary = tmp_path / "temporary"
    run = start(project, temporary, background)
    top = psutil.Process(run.pid)
    wait_for_generator(top)
    assert list(temporary.glob("firsttoken-job-*/firsttoken-socket-*/socket")), "the generator's socket is there"
    family = [top, *top.children(recursive=True)]
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # a terminal sends Ctrl-C to every process of the foreground group
    else:
        os.kill(run.pid, number)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, [process.cmdline() for process in alive]
    assert left_over(project.folder) == []
    left = [path.name for path in temporary.glob("firsttoken*")]
    # kill -9 leaves the folder of the killed process itself to the next run.
    assert not left or (number == signal.SIGKILL and len(left) == 1 and left[0].startswith("firsttoken-outcome-"))
    raw = project.folder / RAW
    assert not list(raw.glob("1.*")), "a half-written result stayed"

    project.edit(project.config, "requests: 100000", "requests: 4")
    whole = number == signal.SIGINT  # once to the report; else only what was interrupted
    targets = [] if whole else [f"{RAW}/1.json"]
    again = subprocess.run(
        [sys.executable, "scripts/run.py", "--config", project.config, *targets],
        cwd=project.folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-4000:]
    assert (raw / "1.json").exists()
    assert list(temporary.glob("firsttoken*")) == []
    if whole:
        assert (project.folder / "results/tiny/report.html").stat().st_size > 100_000
    assert "Fetching the model" not in again.stderr, "the model was there already"
    assert ("removed the lock of a run that was killed" in again.stderr) == (number == signal.SIGKILL)
