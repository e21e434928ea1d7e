"""What `make gpu-check` says about the committed baseline."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from gpu_baseline import changes_between, compare_with_baseline, half_interval

SHIPPED = Path(__file__).parents[2] / "results/reference/gpu-check"
COLUMNS = ("ttft_median", "itl_request_mean_median")


def row(approach: str = "jit_cuda", ttft_ms: float = 10.0, token_ms: float = 5.0, half: float = 0.02) -> dict[str, str]:
    """A row of latency_by_length.csv, with intervals within the process only."""
    found = {"approach": approach, "prompt_length": "10"}
    for column, value in zip(COLUMNS, (ttft_ms, token_ms), strict=True):
        within = {"low": value * (1 - half), "high": value * (1 + half)}
        found |= {f"{column}_ms": str(value), f"{column}_low_ms": "", f"{column}_high_ms": ""}
        found |= {f"{column}_within_{end}_ms": str(bound) for end, bound in within.items()}
    return found


def study(folder: Path, rows: list[dict[str, str]], gpu: str = "NVIDIA H100 80GB HBM3") -> Path:
    environment = json.loads((SHIPPED / "environment.json").read_text())
    environment["gpu"]["name"] = gpu
    (folder / "tables").mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps(environment))
    with (folder / "tables/latency_by_length.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.mark.parametrize(
    ("ttft_ms", "verdict"), [(10.0, "same"), (10.1, "same"), (10.3, "SLOWER"), (9.9, "same"), (9.7, "faster")]
)
def test_slower_is_more_than_half_an_interval(ttft_ms: float, verdict: str) -> None:
    (ttft, token), missing = changes_between([row(ttft_ms=ttft_ms)], [row()])
    assert (ttft.verdict, token.verdict, missing) == (verdict, "same", [])
    assert ttft.what == "jit_cuda, TTFT at 10 prompt tokens"


def test_the_wider_interval_of_both_counts() -> None:
    """Seen failing: with the baseline's interval alone."""
    for now, then in ((0.02, 0.08), (0.08, 0.02)):
        (ttft, _), _ = changes_between([row(ttft_ms=10.5, half=now)], [row(half=then)])
        assert ttft.half_interval == pytest.approx(0.08)
        assert ttft.verdict == "same"


def test_an_interval_over_processes_is_preferred() -> None:
    over_processes = row() | {"ttft_median_low_ms": "9", "ttft_median_high_ms": "11"}
    assert half_interval(over_processes, "ttft_median") == pytest.approx(0.1)
    assert half_interval(row() | {"ttft_median_within_low_ms": ""}, "ttft_median") == 0


def test_what_was_not_measured_again_is_named(tmp_path: Path) -> None:
    unavailable = row("tensorrt_llm") | {"ttft_median_ms": "", "itl_request_mean_median_ms": ""}
    now = study(tmp_path / "now", [row(ttft_ms=12.0), unavailable])
    then = study(tmp_path / "then", [row(), row("tensorrt_llm"), row("compiled_graph")])
    lines = compare_with_baseline(now, then)
    assert sum("not measured here" in line for line in lines) == 4
    assert (
        "baseline: jit_cuda, TTFT at 10 prompt tokens: 12.000 ms, baseline 10.000 ms "
        "(+20.0%, half an interval is 2.0%): SLOWER" in lines
    )
    assert lines[-1].startswith("baseline: 1 of 2 figures are slower")


def test_another_gpu_model_is_not_compared(tmp_path: Path) -> None:
    now = study(tmp_path / "now", [row(ttft_ms=99.0)], gpu="NVIDIA H200")
    (line,) = compare_with_baseline(now, study(tmp_path / "then", [row()]))
    assert "was measured on NVIDIA H100 80GB HBM3, this is NVIDIA H200: nothing is compared" in line


def test_the_committed_baseline_is_no_slower_than_itself() -> None:
    lines = compare_with_baseline(SHIPPED, SHIPPED)
    assert lines[-1].startswith("baseline: 0 of 18 figures are slower")
