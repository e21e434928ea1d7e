"""`make trtllm-check`: one line where something is missing, and the whole of it against the stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "fakes" / "trtllm_site"


def check(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "trtllm_check.py")],
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


@pytest.mark.slow
def test_the_whole_of_it_against_the_stand_in() -> None:
    run = check(PYTHONPATH=str(STAND_IN))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "tensorrt_llm 1.2.1" in run.stdout and "on NVIDIA Test" in run.stdout
    table = run.stdout[run.stdout.index("approach ") :].splitlines()
    assert [line.split()[:2] for line in table[1:5]] == [
        ["tensorrt_llm", "worker"],
        ["tensorrt_llm_nograph", "worker"],
        ["tensorrt_llm", "one"],
        ["tensorrt_llm_nograph", "one"],
    ]
    assert table[-1] == "all right"


@pytest.mark.slow
def test_wrong_tokens_fail_it(tmp_path: Path) -> None:
    """A stream that is one token short is named, run by run, and the exit status is 1."""
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        f"import runpy\nrunpy.run_path({str(STAND_IN / 'sitecustomize.py')!r})\n"
        "from tensorrt_llm._tensorrt_engine import LLM\nLLM.lost_tokens = 1\n"
    )
    run = check(PYTHONPATH=str(tmp_path))
    assert run.returncode == 1
    assert "gave 15 tokens for 16" in run.stderr
    assert "4 of 4 failed" in run.stdout
