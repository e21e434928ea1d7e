"""A whole run beside a machine with two GPUs, through the real sampler process and a fake driver: the right GPU is
watched, its energy is counted, and what taints is kept, flagged, left out and counted."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from firsttoken.analysis.requests import read_requests
from firsttoken.measure import harness
from firsttoken.measure.harness import run_benchmark
from firsttoken.measure.telemetry import Telemetry
from firsttoken.pooled_runs import write_pooled
from firsttoken.results import RunRecord
from firsttoken.study.job import job
from unit.measure.fakes import LENGTHS, NEW_TOKENS, Constant, make_outputs, make_request

FAKES = Path(__file__).parents[2] / "fakes" / "nvml"
FIRST, SECOND = "GPU-11111111-aaaa", "GPU-22222222-bbbb"


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))  # for the sampler's process
    monkeypatch.syspath_prepend(str(FAKES))  # for this one
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield
    sys.modules.pop("pynvml", None)


def test_cuda_counts_the_gpus_of_a_job_as_nvml_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit), job(SimpleNamespace(log=[str(tmp_path / "job.log")])):
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        raise ValueError("enough")


@pytest.mark.parametrize(("uuid", "name"), [(FIRST, "NVIDIA A100"), (SECOND, "NVIDIA H200")])
def test_the_sampler_watches_the_gpu_of_its_uuid(uuid: str, name: str) -> None:
    with Telemetry("cuda", uuid) as telemetry:
        assert (telemetry.start.source, telemetry.start.gpu_name) == ("nvml", name)
        readings = telemetry.stop()
    power_w = {FIRST: 100, SECOND: 300}[uuid]
    assert {sample.gpu.power_w for sample in readings.samples if sample.gpu} == {power_w}


def test_an_unknown_uuid_is_an_error_and_no_other_gpu() -> None:
    with pytest.raises(RuntimeError, match=r"ended at its start: .*NVML error 6"):
        Telemetry("cuda", "GPU-99999999-cccc")


def run(tmp_path: Path) -> tuple[RunRecord, pd.DataFrame]:
    outputs = make_outputs(tmp_path)
    request = make_request(tmp_path, requests_per_length=25, pause_ms=10.0, gpu_uuid=SECOND)
    return run_benchmark(request, Constant, outputs), pd.read_parquet(outputs.samples)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is one for a CPU, since there is no other; only the telemetry watches a GPU."""
    monkeypatch.setattr(harness, "Telemetry", lambda device, uuid: Telemetry("cuda", uuid))


def test_energy_a_token_is_that_of_the_right_gpu(tmp_path: Path, on_gpu: None) -> None:
    record, frame = run(tmp_path)
    found = record.telemetry
    tokens = 25 * len(LENGTHS) * NEW_TOKENS
    span_s = 49 * 0.010  # fifty requests with a pause between them
    assert found.energy_j is not None and found.energy_j_per_token is not None
    assert span_s * 300 < found.energy_j < 3 * span_s * 300
    assert found.energy_j_per_token == pytest.approx(found.energy_j / tokens)
    assert (found.source, found.power_w_mean, found.temperature_c_max) == ("nvml", 300, 60)
    assert record.tainted_requests == 0 and not frame["tainted"].any()
    assert record.memory.device_process_tree_bytes == 1 << 20


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("FAKE_NVML_REASONS", "0x40", "GPU throttled: hardware thermal slowdown"),
        ("FAKE_NVML_OTHER", "1", "another compute process on the GPU"),
    ],
)
def test_taint_goes_from_the_driver_to_the_statistics(
    tmp_path: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    record, frame = run(tmp_path)
    assert record.telemetry.taint_reasons == (reason,)
    assert record.tainted_requests == 50 and len(frame) == 50 * NEW_TOKENS, "kept"
    assert frame["tainted"].all(), "flagged"
    write_pooled(pq.read_table(tmp_path / "raw" / "1.parquet"), tmp_path / "samples.parquet")
    requests = read_requests(tmp_path / "samples.parquet")
    assert requests.cells["tainted"].sum() == 50 and requests.cells["requests"].sum() == 0, "left out and counted"


def test_a_run_beside_a_driver_that_tells_nothing_leaves_the_fields_empty(
    tmp_path: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on boards without power limits, ECC or clocks to read. Seen failing: NVMLError for the name and the UUID."""
    asked = set(re.findall(r"def (nvml(?:Device|System)\w+)", (FAKES / "pynvml.py").read_text(encoding="utf-8")))
    monkeypatch.setenv("FAKE_NVML_REFUSED", " ".join(asked - {"nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"}))
    record, frame = run(tmp_path)
    told = {field: getattr(record.telemetry, field) for field in ("sm_clock_mhz_median", "power_w_mean", "energy_j")}
    assert record.status == "measured" and len(frame) == 50 * NEW_TOKENS
    assert record.telemetry.source == "nvml" and set(told.values()) == {None}
    assert record.memory.device_process_tree_bytes is None and record.tainted_requests == 0
