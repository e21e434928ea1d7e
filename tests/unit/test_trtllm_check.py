"""`make trtllm-check`: one line where something is missing, and the whole of it against the stand-in."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "trtllm_check.py"
STAND_IN = ROOT / "tests" / "fakes" / "trtllm_site"


def check(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_a_python_without_the_packages_gets_one_line() -> None:
    run = check()
    assert run.returncode == 1
    assert "has no tensorrt_llm; run it where TensorRT-LLM 1.2.1 and a GPU are" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_another_version_gets_one_line() -> None:
    """The stand-in is found, but what is installed here is not TensorRT-LLM's environment."""
    run = check(PYTHONPATH=str(STAND_IN.parent))
    assert run.returncode == 1
    assert run.stdout.startswith("trtllm-check: not the environment of TensorRT-LLM 1.2.1: ")
    assert len(run.stdout.strip().splitlines()) == 1


ONE_RUN_BROKEN = f"""
import runpy
runpy.run_path({str(STAND_IN / "sitecustomize.py")!r})
from tensorrt_llm.llmapi.llm import BaseLLM, LLM
BaseLLM.lost_tokens = property(lambda self: int(isinstance(self, LLM) and self.worker is None))
"""


@pytest.mark.slow
def test_the_whole_of_it_against_the_stand_in(tmp_path: Path) -> None:
    """Six runs, of which one has a stream that is a token short: it is named, and the exit status is 1."""
    (tmp_path / "sitecustomize.py").write_text(ONE_RUN_BROKEN)
    run = check(PYTHONPATH=str(tmp_path), STAND_IN_TOKENS=str(tmp_path / "tokens.json"))
    assert "tensorrt_llm 1.2.1" in run.stdout and "on NVIDIA Test" in run.stdout
    lines = run.stdout[run.stdout.index("approach ") :].splitlines()
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["tensorrt_llm", "worker"],
        ["tensorrt_llm_nograph", "worker"],
        ["tensorrt_llm_pytorch", "worker"],
        ["tensorrt_llm", "one"],
        ["tensorrt_llm_nograph", "one"],
    ], run.stdout + run.stderr
    assert {line.split()[-1] for line in lines[1:6]} == {"0.0000"}, "the stand-in's tokens are the reference's"
    assert len(lines) == 8 and lines[6].startswith("FAILED: tensorrt_llm_pytorch, one process: ")
    assert "gave 15 tokens for 16" in run.stderr
    assert run.returncode == 1


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[dict[str, Any]], Sequence[str]], int]:
    monkeypatch.syspath_prepend(str(STAND_IN.parent))
    function: Callable[[Sequence[dict[str, Any]], Sequence[str]], int] = runpy.run_path(str(SCRIPT))["report"]
    return function


@pytest.mark.parametrize(
    "gap, failures, last",
    [
        (0.01, (), "all right"),
        (0.2, (), "FAILED: a: a float32 logit lies 0.2 above the chosen one"),
        (0.01, ("b: late",), "FAILED: b: late"),
    ],
)
def test_a_wrong_token_or_a_failed_run_decides_the_exit_status(
    report: Callable[[Sequence[dict[str, Any]], Sequence[str]], int],
    capsys: pytest.CaptureFixture[str],
    gap: float,
    failures: Sequence[str],
    last: str,
) -> None:
    status = report([{"approach": "a", "logit gap": gap}], failures)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == ["approach  logit gap", f"a         {gap:.4f}"]
    assert (status, lines[3]) == (int(last != "all right"), last)
