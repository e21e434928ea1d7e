"""Readings of claims about the pool and about clients, put to experiments whose outcome is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from fakes.claim_studies import HYBRID, LLAMA, judged, readings
from firsttoken.analysis.claim_experiments import judge_experiment
from firsttoken.analysis.claim_files import Clients, read_publications
from firsttoken.experiment_tables import write_experiment
from fixtures_samples import Study, Table

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
    assert judged(as_claimed, pool_memory=path)["rolling_bounds_memory"] == verdict


def test_memory_is_judged_by_what_the_driver_says(as_claimed: Study, tmp_path: Path) -> None:
    """Seen failing: graph_bytes, which is flat here, taken first."""
    growing = [10, 20, 30, 40, 50, 60]
    path = pool_memory(tmp_path / "pool.csv", growing, growing, column="device_used_bytes")
    assert judged(as_claimed, pool_memory=path)["rolling_bounds_memory"] == "refuted"


@pytest.mark.parametrize(
    ("after_ms", "hit", "verdict"),
    [(5.2, True, "reproduced"), (6.0, True, "inconclusive"), (9.0, True, "refuted"), (5.2, False, "refuted")],
)
def test_lengths_that_were_not_captured(
    as_claimed: Study, tmp_path: Path, after_ms: float, hit: bool, verdict: str
) -> None:
    path = tmp_path / "pool_misses.csv"
    rows = [
        {"kind": kind, "prompt_length": length, "request": request, "ttft_ms": ms, "pool_hit": pool_hit}
        for length in (17, 33)
        for kind, request, ms, pool_hit in (
            ("miss", 0, 20.0, False), ("after_capture", 1, after_ms, hit), ("beforehand", 0, 5.0, True),
        )
    ]  # fmt: skip
    write_experiment(pd.DataFrame(rows), "pool_misses", path)
    row = readings(as_claimed, pool_misses=path).loc["asynchronous_capture"]
    assert row["verdict"] == verdict, row["sentence"]
    write_experiment(pd.DataFrame([row for row in rows if row["kind"] != "miss"]), "pool_misses", path)
    assert judged(as_claimed, pool_misses=path)["asynchronous_capture"] == "refuted", "never served at first"


@pytest.mark.parametrize(("missed", "verdict"), [((17,), "reproduced"), ((), "not testable here")])
def test_a_length_whose_bucket_is_in_the_pool_already_is_served(
    as_claimed: Study, tmp_path: Path, missed: tuple[int, ...], verdict: str
) -> None:
    """With prefill buckets. Seen failing: refuted, since these lengths were no misses."""
    path = tmp_path / "pool_misses.csv"
    rows = []
    for length in (17, 33, 48):
        first = ("miss", 20.0, False) if length in missed else ("after_capture", 5.2, True)
        for request, (kind, ms, hit) in enumerate((first, ("after_capture", 5.2, True), ("beforehand", 5.0, True))):
            rows.append({"kind": kind, "prompt_length": length, "request": request, "ttft_ms": ms, "pool_hit": hit})
    write_experiment(pd.DataFrame(rows), "pool_misses", path)
    row = readings(as_claimed, pool_misses=path).loc["asynchronous_capture"]
    assert row["verdict"] == verdict, row["sentence"]


def test_a_bounded_cache_refutes_unlimited_lengths(as_claimed: Study) -> None:
    """Seen failing: reproduced, since all lengths of the experiment were served, none of them longer than the cache."""
    row = readings(as_claimed, model=msgspec.structs.replace(LLAMA, max_context=2048)).loc["unlimited_lengths"]
    assert row["verdict"] == "refuted" and row["measured_value"] == 2048
    assert "2048, claimed no limit" in row["sentence"]


def clients(per_s: dict[tuple[str, int], float], ttft_ms: float = 80.0, rounds: int = 1) -> Table:
    """Loads of 40 requests a client at so many requests a second; none where it is 0. One client's TTFT is 20 ms."""
    rng = np.random.default_rng(3)
    rows = []
    for (arrangement, n), rate in per_s.items():
        for number in range(rounds):
            row: dict[str, Any] = {
                "arrangement": arrangement,
                "approach": "x",
                "clients": n,
                "round": number,
                "requests": 40 * n,
            }
            first_ms = (20.0 if n == 1 else ttft_ms) * rng.lognormal(0, 0.02)
            row |= {"ttft_mean_ms": first_ms, "ttft_median_ms": first_ms, "reason": ""}
            row["duration_s"] = row["requests"] / (rate * rng.lognormal(0, 0.02)) if rate else np.nan
            rows.append(row if rate else row | {"ttft_mean_ms": np.nan, "ttft_median_ms": np.nan, "reason": "no room"})
    return pd.DataFrame(rows)


def of_clients(frame: Table) -> dict[str, tuple[str, str]]:
    """The verdict and the sentence of each reading of the claim about scaling, by the figure that it takes."""
    (claim,) = [claim for claim in read_publications([HYBRID])[0].claims if claim.id == "ipc_scales"]
    names = ("throughput", "ttft", "copies")
    found = [
        judge_experiment(reading, {"clients": frame}) for reading in claim.readings if isinstance(reading, Clients)
    ]
    return {name: (finding.verdict, finding.why) for name, finding in zip(names, found, strict=True)}


SHARED, SHARED_4, COPIES_4 = ("shared_queue", 1), ("shared_queue", 4), ("copies", 4)


@pytest.mark.parametrize(
    ("four", "copies", "ttft_ms", "verdicts"),
    [
        (20.0, 60.0, 80.0, ("refuted", "refuted", "refuted")),  # one queue, one model: no more than one client gets
        (60.0, 40.0, 22.0, ("reproduced", "reproduced", "reproduced")),
        (26.0, 27.0, 34.0, ("inconclusive", "inconclusive", "inconclusive")),
    ],
)
@pytest.mark.parametrize("rounds", [1, 5])
def test_scaling_with_clients(
    four: float, copies: float, ttft_ms: float, verdicts: tuple[str, ...], rounds: int
) -> None:
    """Seen failing: reproduced, from a generator that computes nothing."""
    found = of_clients(clients({SHARED: 20.0, SHARED_4: four, COPIES_4: copies}, ttft_ms, rounds))
    assert tuple(verdict for verdict, _ in found.values()) == verdicts, found
    for _, why in found.values():
        assert ("95 % interval" in why) == (rounds == 5) and ("(one run)" in why) == (rounds == 1)


def test_copies_that_do_not_fit_are_named() -> None:
    found = of_clients(clients({SHARED: 20.0, SHARED_4: 20.0, COPIES_4: 0}))
    assert found["copies"] == ("not testable here", "copies with 4 clients has no figures (no room)")
    assert found["throughput"][0] == "refuted"


def test_without_the_experiment_scaling_is_not_testable(as_claimed: Study) -> None:
    """Seen failing: the experiment ipc, whose generator computes nothing, decided it."""
    path = as_claimed.root / "ipc.csv"
    row = {"form": "two_processes", "median_us": 0.0, "p99_us": 0.0, "n": 100, "mean_us": 20.0}
    rows = [row | {"clients": n, "metric": metric} for n in (1, 4) for metric in ("first_token", "token_gap")]
    write_experiment(pd.DataFrame(rows), "ipc", path)
    found = readings(as_claimed, ipc=path).loc["ipc_scales"]
    assert set(found["verdict"]) == {"not testable here"}
    assert found["sentence"].str.contains("the experiment clients was not run").all()
