"""The study on a Slurm, by the command of docs/cluster.md."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from cluster.slurm import Slurm, start_with_us
from firsttoken.study.trace import read_traces
from workflow.project import ROOT

pytestmark = pytest.mark.timeout(1500)
# The profile's five seconds are for a real cluster.
ASK_OFTEN = ("--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1")
MEASURING = ("benchmark_approach", "measure_ceilings", "make_reference")
TWO_GPUS = str(ROOT / "tests" / "fakes" / "nvml")  # the first is an NVIDIA A100


class Submitted:
    """Snakemake at work."""

    def __init__(self, slurm: Slurm, lines: list[list[str]], project: Path, *arguments: str, nvml: str = "") -> None:
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        self._process = start_with_us(
            slurm.command(*lines[1], *ASK_OFTEN, *arguments),
            cwd=project,
            env=environment | {"PYTHONPATH": nvml},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> tuple[int, str]:
        """Its exit status and all that it printed."""
        output = self._process.communicate()[0]
        return self._process.returncode, output

    def runs(self) -> bool:
        return self._process.poll() is None


def test_a_cancelled_job_fails_the_study_and_the_same_command_finishes_it(
    slurm: Slurm, lines: list[list[str]], project: Path
) -> None:
    """Four submitted at once, for one GPU."""
    first = Submitted(slurm, lines, project, "--resources", "gpu=4")
    cancelled = ""
    while first.runs() and not cancelled:
        for line in slurm.ask("squeue", "--noheader", "--states=R", "--format=%i %k").splitlines():
            if "benchmark_approach" in line:
                cancelled = line.split()[0]
                slurm.ask("scancel", cancelled)
        time.sleep(0.5)
    status, output = first.wait()
    assert cancelled, output[-5000:]
    assert status != 0
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in output

    status, output = Submitted(slurm, lines, project, "--resources", "gpu=4").wait()
    assert status == 0, output[-5000:]
    verify = [sys.executable, "scripts/verify.py", "tiny"]
    verified = subprocess.run(verify, cwd=project, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
    traces = read_traces([project / "results" / "tiny" / "logs"])
    spans = sorted(
        (trace.started_at, trace.started_at + trace.seconds) for trace in traces.values() if trace.rule in MEASURING
    )
    assert len(spans) == 2 + 4
    assert all(end <= start for (_, end), (start, _) in pairwise(spans)), "two jobs measured at once"


@pytest.mark.parametrize(
    ("options", "nvml", "said"),
    [
        (
            ["hardware={gpu: NVIDIA H200}"],
            "",
            "no CUDA device is visible here with CUDA_VISIBLE_DEVICES='0'; run on a GPU, on a cluster with gpu=1",
        ),
        (
            ["hardware={gpu: NVIDIA H200}"],
            TWO_GPUS,
            "config key hardware.gpu: expected 'NVIDIA H200', this job has 'NVIDIA A100'; ask for that GPU",
        ),
    ],
    ids=["a node without a GPU", "another GPU"],
)
def test_a_job_on_the_wrong_node_says_so_in_one_line_on_the_login_node(
    slurm: Slurm, lines: list[list[str]], project: Path, options: list[str], nvml: str, said: str
) -> None:
    target = "results/promised/environment.json"
    arguments = ["--config", "study=promised", "device=cuda", *options, "--", target]
    status, output = Submitted(slurm, lines, project, *arguments, nvml=nvml).wait()
    assert status != 0
    assert any(line.startswith(f"firsttoken: {said} (log: ") for line in output.splitlines()), output[-5000:]


def test_the_gpu_of_the_job_is_recorded_on_a_login_node_without_one(
    slurm: Slurm, lines: list[list[str]], project: Path
) -> None:
    target = "results/promised/environment.json"
    arguments = ["--config", "study=promised", "device=cuda", "hardware={gpu: NVIDIA A100}", "--", target]
    status, output = Submitted(slurm, lines, project, *arguments, nvml=TWO_GPUS).wait()
    assert status == 0, output[-5000:]
    assert '"NVIDIA A100"' in (project / target).read_text(encoding="utf-8")


def test_what_slurm_cannot_give_is_refused_with_its_words(slurm: Slurm, lines: list[list[str]], project: Path) -> None:
    arguments = ["--config", "study=refused", "--default-resources", "constraint=nowhere"]
    status, output = Submitted(slurm, lines, project, *arguments, "--", "results/refused/environment.json").wait()
    assert status != 0
    assert "Invalid feature specification" in output, output[-5000:]
