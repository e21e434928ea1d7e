"""A machine that others used is said in one sentence; a quiet one is not mentioned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from firsttoken import files
from firsttoken.analysis.busy import busy, not_interleaved
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.schemas import read_table
from firsttoken.pooled_runs import read_records
from firsttoken.results import Environment, RunRecord
from fixtures_samples import Study


@pytest.mark.parametrize(
    ("others", "factor", "said"),
    [
        (0.1, 1.0, ""),
        (None, 1.0, ""),
        (0.9, 1.0, "was not quiet: other programs kept 0.9 of 2 cores busy"),
        (0.1, 2.0, "may not have been quiet: the slowest process of baseline took 2"),
    ],
)
def test_load_and_swings(every_approach: Study, others: float | None, factor: float, said: str) -> None:
    frame = read_table(every_approach.table("process_statistics"), "process_statistics")
    slow = (frame["approach"] == "baseline") & (frame["repeat"] == 1)
    frame["value"] *= np.where(slow, factor, 1.0)
    records = [
        replace(run, telemetry=replace(run.telemetry, other_cores_median=others))
        for run in read_records(every_approach.root / "records.parquet")
    ]
    machine = replace(files.read_json(Path(every_approach.root / "environment.json"), Environment), cores=2)
    found = busy(ProcessTable(frame), ["baseline", "jit_cuda"], records, machine)
    assert said in found and bool(found) == bool(said)


def test_runs_side_by_side_took_turns(every_approach: Study) -> None:
    """On several GPUs. Seen failing: a run that started two seconds before the last of the repeat before it."""
    one = next(run for run in read_records(every_approach.root / "records.parquet") if run.status == "measured")

    def run(repeat: int, second: int) -> RunRecord:
        return replace(one, repeat=repeat, started_at=f"2026-01-02T00:00:{second:02}+00:00", duration_s=5.0)

    assert not_interleaved([run(1, 0), run(2, 6), run(1, 8), run(2, 20)]) == ""
    assert not_interleaved([run(1, 0), run(2, 6), run(1, 11)]) == "", "stamps are whole seconds"
    assert not_interleaved([run(1, 0), run(2, 6), run(1, 12)]) == f"{one.approach}/2 ran before {one.approach}/1"
