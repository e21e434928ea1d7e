"""The targets of `make gpu-check`, on rows of a latency table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from firsttoken.measure.capture_beside import GapRow
from gpu_check import ALONE, FINISH, MEASURED, PREPARED, SNAKEMAKE, TOGETHER, targets_of

ROOT = Path(__file__).resolve().parents[2]


def gap_row(beside: bool, p99_ms: float) -> GapRow:
    return GapRow(
        load="long requests", beside=beside, requests=1, gaps=400, median_ms=5.0, p99_ms=p99_ms, max_ms=9.0,
        captures=4 if beside else 0, capture_ms=80.0 if beside else None,
    )  # fmt: skip


def test_each_target_takes_its_own_figure() -> None:
    """Seen failing: gaps without captures judged; at-least targets judged as at most."""
    others = {
        "ttft_median_ms": "28.1",
        "itl_request_mean_median_ms": "24.3",
        "speedup_ttft": "1.2",
        "floor_ttft_ms": "9",
    }
    rows = [others | {"approach": "baseline", "prompt_length": length} for length in ("10", "250", "500")]
    rows += [others | {"approach": "jit_cuda", "prompt_length": "500"}]
    rows += [others | {"approach": "jit_cuda", "prompt_length": "10", "speedup_ttft": "3.165"}]
    ours = {"approach": "compiled_graph", "floor_ttft_ms": "9.5"}
    rows += [
        ours | {"prompt_length": "10", "ttft_median_ms": "4.6"},
        ours | {"prompt_length": "250", "itl_request_mean_median_ms": "3.45"},
        ours | {"prompt_length": "500", "ttft_median_ms": "11.4"},
    ]
    found = targets_of(rows, [gap_row(False, 9.0), gap_row(True, 5.4)])
    assert [(round(target.found or 0, 3), target.verdict) for target in found] == [
        (3.45, "met"), (4.6, "missed"), (1.2, "met"), (3.165, "missed"), (1.08, "met"),
    ]  # fmt: skip


def test_what_was_not_measured_is_said_to_be_so() -> None:
    assert [target.verdict for target in targets_of([], [])] == ["not measured"] * 4


def test_a_p99_of_too_few_gaps_is_no_verdict() -> None:
    """As happens beside quick captures: the requests that ran meanwhile give too few gaps."""
    few = msgspec.structs.replace(gap_row(True, 5.4), gaps=367)
    assert targets_of([], [few])[-1].verdict == "not measured"


def test_every_file_of_gpu_tests_runs_once() -> None:
    """Seen failing: a file that no group has."""
    found = sorted(path.name for path in (ROOT / "tests" / "gpu").glob("test_*.py"))
    assert sorted([*ALONE, *(name for group in TOGETHER for name in group)]) == found


@pytest.mark.workflow
def test_the_parts_of_the_study_are_known_to_the_workflow(tmp_path: Path) -> None:
    """Seen failing: a gate of another name. No CUDA device is needed for a dry run that is promised one."""
    config = tmp_path / "promised.yaml"
    config.write_text("hardware: {gpu: NVIDIA H200}\n")
    for targets in ((PREPARED, *MEASURED, "--dry-run", *SNAKEMAKE), ("--dry-run", *FINISH)):
        command = [sys.executable, "-m", "snakemake", *targets, str(config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
