"""Signals at random moments to a run, its jobs, and their processes: the same command goes on, and nothing stays.

As many signals as FAULTS_KILLS says (3), until FAULTS_SECONDS (45) have passed; FAULTS_SEED (1). From
FAULTS_WHOLE_STUDY on, the command makes the whole study, which takes minutes; with fewer signals, a single benchmark.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from firsttoken.files import read_json
from firsttoken.results import RunRecord
from workflow.project import fresh_clone

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FAULTS_KILLS", "3"))
SECONDS = float(os.environ.get("FAULTS_SECONDS", "45"))
SEED = int(os.environ.get("FAULTS_SEED", "1"))
FAULTS_WHOLE_STUDY = 20
STUDY = """\
study: kills
threads: 1
approaches: [cuda_graph]
workload: {prompt_lengths: [6], new_tokens: 4, requests: 40, repeats: 1, prompts_per_length: 2}
experiments: []
claims: []
"""
TARGETS = [] if KILLS >= FAULTS_WHOLE_STUDY else ["results/kills/raw/null_2p/1.json"]
COMMAND = [sys.executable, "-m", "snakemake", *TARGETS, "--cores", "1", "--configfile", "kills.yaml"]
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
SIGNALS = ["KILL", "INT", "TERM", "STOP"]
PROCESSES = {
    "snakemake": r" -m snakemake ",
    "job": r"/\.snakemake/scripts/",
    "measuring process": r" firsttoken\.measure\.run ",
    "generator": r" firsttoken\.server\.server",
    "sampler": r" firsttoken\.measure\.sampler",
    "all": "",
}
END_S = 90  # Snakemake finishes running jobs on some signals
GONE_S = 40  # from a killed process to the end of the last one that worked for it


class Run:
    """One run of the command, with temporary folders of its own."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder, self.log = folder, folder / "run.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                COMMAND,
                cwd=folder,
                env={**ENVIRONMENT, "TMPDIR": str(temporary)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def members(self, name: str) -> list[psutil.Process]:
        """The processes of this run that have this name."""
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [member for member in [top, *top.children(recursive=True)] if _is(member, PROCESSES[name])]
        return []

    def ended(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is not None

    def tail(self) -> str:
        """What we said, and the end."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([*(line for line in lines if "firsttoken: " in line), "...", *lines[-6:]])


def _is(process: psutil.Process, pattern: str) -> bool:
    with suppress(psutil.NoSuchProcess):
        return re.search(pattern, " ".join(process.cmdline()) + " ") is not None
    return False


def send(members: list[psutil.Process], name: str, pause_s: float) -> None:
    """Send the signal; a stopped process goes on after `pause_s`."""
    numbers = [signal.SIGSTOP, signal.SIGCONT] if name == "STOP" else [signal.Signals[f"SIG{name}"]]
    for number in numbers:
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(pause_s)


def working_in(folder: Path) -> list[str]:
    """The command lines of processes that work in the folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
    return found


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + GONE_S
    while processes := working_in(folder):
        assert time.monotonic() < deadline, processes
        time.sleep(0.2)


def check_finished(folder: Path, temporary: Path) -> None:
    """The study is complete, nothing is left to do, and nothing stayed."""
    wait_until_gone(folder)
    dry = subprocess.run([*COMMAND, "-n"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert "Nothing to be done" in dry.stdout + dry.stderr, dry.stdout + dry.stderr
    records = sorted((folder / "results/kills/raw").glob("*/1.json"))
    assert [path.parent.name for path in records] == (["null_2p"] if TARGETS else ["cuda_graph", "null", "null_2p"])
    for path in records:
        record = read_json(path, RunRecord)
        assert record.status in ("measured", "emulated"), f"{path}: {record.status}: {record.reason}"
    if not TARGETS:
        verified = subprocess.run(
            [sys.executable, "scripts/verify.py", "kills"], cwd=folder, capture_output=True, text=True
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr
    state = folder / ".snakemake"
    left = [*state.glob("firsttoken-*"), *state.glob("locks/*"), *state.glob("scripts/*"), *state.glob("incomplete/*")]
    left += (folder / "results").rglob(".firsttoken-*")
    # Not ours: a cache that all share, and Snakemake's own where it was killed before it read the Snakefile.
    left += [path for path in temporary.iterdir() if not path.name.startswith(("torchinductor_", "snakemake"))]
    assert left == []


@pytest.mark.timeout(SECONDS + 900)
def test_kills(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    folder = fresh_clone(tmp_path / "clone")
    (folder / "kills.yaml").write_text(STUDY, encoding="utf-8")
    deadline = time.monotonic() + SECONDS
    sent: Counter[str] = Counter()
    studies = 0
    run = Run(folder, temporary)
    try:
        while sent.total() < KILLS and time.monotonic() < deadline:
            run.ended(rng.uniform(0.2, 25))
            name, target = rng.choice(SIGNALS), rng.choice([name for name in PROCESSES if run.members(name)] or ["all"])
            if members := run.members(target):
                print(f"{name} to {target}: {[member.pid for member in members]}", flush=True)
                send(members, name, rng.uniform(0.3, 2))
                sent[f"{name} to {target}"] += 1
                if name != "STOP" and target in ("snakemake", "job", "all"):
                    assert run.ended(END_S), f"{name} to {target}: Snakemake still runs; {run.tail()}"
            if run.process.poll() is not None:
                wait_until_gone(folder)
                if run.process.returncode == 0:
                    studies += 1
                    check_finished(folder, temporary)
                    shutil.rmtree(folder / "results")
                run = Run(folder, temporary)
        while run.process.wait() != 0:
            before = run.tail()
            run = Run(folder, temporary)
            run.process.wait()
            assert run.process.returncode == 0, f"not finished by the same command:\n{before}\n--- again:\n{run.tail()}"
        check_finished(folder, temporary)
        assert sent, "no signal was sent"
    finally:
        for member in run.members("all"):
            with suppress(psutil.NoSuchProcess):
                member.kill()
        print(f"{sent.total()} signals, {studies + 1} studies to their end: {dict(sent)}")
