"""A whole run through its own process, as the rule starts it."""

from __future__ import annotations

import time
from importlib import metadata
from pathlib import Path
from time import perf_counter_ns

from firsttoken.child_job import run_module
from firsttoken.files import read_json
from firsttoken.measure.run_request import RunJob
from firsttoken.results import RunRecord
from unit.measure.fakes import make_outputs, make_request


def test_the_process_measures_with_its_own_packages_from_the_time_of_its_start(tmp_path: Path) -> None:
    begun_ns = perf_counter_ns()
    time.sleep(0.5)
    request = make_request(tmp_path, approach="null", process_started_ns=perf_counter_ns(), fingerprint="a-b")
    job = RunJob(request=request, outputs=make_outputs(tmp_path), log=str(tmp_path / "log"))
    run_module("", "firsttoken.measure.run", job)
    record = read_json(job.outputs.record, RunRecord)
    assert (record.status, record.reason, record.requests) == ("measured", "", 12)
    assert record.versions["numpy"] == metadata.version("numpy")
    assert record.machine == "a"
    assert record.ready_s is not None and 0.02 < record.ready_s < (perf_counter_ns() - begun_ns) / 1e9 - 0.5
    assert record.setup.imports_s > 0.9 * record.ready_s, "the interpreter's start and imports are in it"
