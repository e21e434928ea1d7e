"""Claims about the pool and about clients, put to experiments whose outcome is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fakes.claim_studies import judged
from firsttoken.experiment_tables import write_experiment
from fixtures_samples import Study

POOL_ROW = dict.fromkeys(
    ("device_used_bytes", "device_reserved_bytes", "device_allocated_bytes"), pd.NA
) | dict.fromkeys(("host_bytes", "captures", "evictions", "failed_captures"), 0)


def pool_memory(path: Path, rolling: list[int], unbounded: list[int], column: str = "graph_bytes") -> Path:
    rows = [
        POOL_ROW | {"mode": mode, "step": step, "prompt_length": 10 + step, "graph_bytes": 0, column: value * 2**20}
        for mode, values in (("rolling", rolling), ("unbounded", unbounded))
        for step, value in enumerate(values)
    ]
    write_experiment(pd.DataFrame(rows), "pool_memory", path)
    return path


@pytest.mark.parametrize(
    ("rolling", "unbounded", "verdict"),
    [
        ([10, 20, 30, 30, 30, 30], [10, 20, 30, 40, 50, 60], "reproduced"),
        ([10, 20, 30, 40, 50, 60], [10, 20, 30, 40, 50, 60], "refuted"),
        ([10, 20, 30, 40, 44, 48], [10, 20, 30, 40, 50, 60], "inconclusive"),
        ([10, 10, 10, 10, 10, 10], [10, 10, 10, 10, 10, 10], "inconclusive"),
        ([10, 20], [10, 20], "not testable here"),
    ],
)
def test_bounded_memory(
    as_claimed: Study, tmp_path: Path, rolling: list[int], unbounded: list[int], verdict: str
) -> None:
    path = pool_memory(tmp_path / "pool.csv", rolling, unbounded)
    assert judged(as_claimed, pool_memory=path).loc["rolling_bounds_memory", "verdict"] == verdict


def test_memory_is_judged_by_what_the_driver_says(as_claimed: Study, tmp_path: Path) -> None:
    """Seen failing: graph_bytes, which is flat here, taken first."""
    growing = [10, 20, 30, 40, 50, 60]
    path = pool_memory(tmp_path / "pool.csv", growing, growing, column="device_used_bytes")
    assert judged(as_claimed, pool_memory=path).loc["rolling_bounds_memory", "verdict"] == "refuted"


@pytest.mark.parametrize(("four", "verdict"), [(200.0, "refuted"), (60.0, "reproduced"), (160.0, "inconclusive")])
def test_scaling_with_clients(as_claimed: Study, tmp_path: Path, four: float, verdict: str) -> None:
    """A request is a first token of 20 us and 3 gaps of 10; four clients at once wait `four` us for theirs."""
    path = tmp_path / "ipc.csv"
    row = {"form": "two_processes", "median_us": 0.0, "p99_us": 0.0}
    rows = [
        row | {"clients": clients, "metric": metric, "n": n, "mean_us": us}
        for clients, first, gap in ((1, 20.0, 10.0), (4, four - 30, 10.0))
        for metric, n, us in (("first_token", 100, first), ("token_gap", 300, gap))
    ]
    write_experiment(pd.DataFrame([*rows, rows[0] | {"form": "one_process", "mean_us": 1.0}]), "ipc", path)
    found = judged(as_claimed, ipc=path).loc["ipc_scales"]
    assert found["verdict"] == verdict and found["measured_value"] == pytest.approx(4 * 50 / four)


@pytest.mark.parametrize(
    ("after_ms", "hit", "verdict"), [(5.2, True, "reproduced"), (9.0, True, "inconclusive"), (5.2, False, "refuted")]
)
def test_uncaptured_lengths(as_claimed: Study, tmp_path: Path, after_ms: float, hit: bool, verdict: str) -> None:
    path = tmp_path / "pool_misses.csv"
    rows = [
        {"kind": kind, "prompt_length": length, "request": 0, "ttft_ms": ms, "pool_hit": pool_hit}
        for length in (17, 33)
        for kind, ms, pool_hit in (("miss", 20.0, False), ("after_capture", after_ms, hit), ("beforehand", 5.0, True))
    ]
    write_experiment(pd.DataFrame(rows), "pool_misses", path)
    row = judged(as_claimed, pool_misses=path).loc["unlimited_lengths"]
    assert row["verdict"] == verdict, row["sentence"]
    write_experiment(pd.DataFrame([row for row in rows if row["kind"] != "miss"]), "pool_misses", path)
    assert judged(as_claimed, pool_misses=path).loc["unlimited_lengths", "verdict"] == "refuted", (
        "never served at first"
    )
