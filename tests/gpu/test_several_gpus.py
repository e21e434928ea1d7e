"""On a host with two GPUs, the one that CUDA_VISIBLE_DEVICES names is measured, watched, recorded and locked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from firsttoken.files import read_json
from firsttoken.hardware import LOCK_FOLDER, nvml
from firsttoken.results import Environment, RunRecord
from workflow.project import fresh_clone

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]
APPROACHES = ["baseline", "cuda_graph", "jit_cuda", "compiled_graph"]
CONFIG = f"""\
study: tiny
approaches: [{", ".join(APPROACHES)}]
model: {{dtype: float16}}
workload: {{prompt_lengths: [6, 12], new_tokens: 3, requests: 20, repeats: 2, prompts_per_length: 2}}
jit: {{backend: torchscript}}
experiments: []
"""
LEAST_BYTES = 100 << 20  # less than a CUDA context takes


def start(folder: Path, visible: str, *runs: str, at_once: int = 1) -> subprocess.Popen[str]:
    """Snakemake in a fresh clone, up to these runs and the machine's record, with so many jobs and GPUs at once."""
    fresh_clone(folder)
    (folder / "config" / "studies" / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    targets = ["results/tiny/environment.json", *(f"results/tiny/raw/{run}.json" for run in runs)]
    slots = ["--cores", str(at_once), "--resources", f"gpu={at_once}"]
    command = [sys.executable, "-m", "snakemake", *targets, *slots, "--configfile", "config/studies/tiny.yaml"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": visible},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    output = process.communicate()[0]
    assert process.returncode == 0, output[-5000:]


def handles(driver: Any) -> list[Any]:
    return [driver.nvmlDeviceGetHandleByIndex(index) for index in range(2)]


def uuids() -> list[str]:
    with nvml() as driver:
        return [str(driver.nvmlDeviceGetUUID(handle)) for handle in handles(driver)]


def records(folder: Path) -> list[RunRecord]:
    paths = sorted(p for p in folder.glob("results/tiny/raw/*/*.json") if ".tokens" not in p.name)
    return [read_json(path, RunRecord) for path in paths]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("named_by", ["index", "uuid", "reordered"])
def test_the_named_gpu_is_measured_watched_recorded_and_locked(named_by: str, tmp_path: Path) -> None:
    _, second = uuids()
    approaches = APPROACHES if named_by == "index" else APPROACHES[1:2]
    visible = {"index": "1", "uuid": second, "reordered": "1,0"}[named_by]
    lock, holders = LOCK_FOLDER / f"firsttoken-{second}.lock", set[str]()
    peaks, pids = [0, 0], [set[int](), set[int]()]
    with nvml() as driver:
        both = handles(driver)
        idle = [driver.nvmlDeviceGetMemoryInfo(handle).used for handle in both]
        before = [{each.pid for each in driver.nvmlDeviceGetComputeRunningProcesses(handle)} for handle in both]
        process = start(tmp_path, visible, *(f"{name}/1" for name in approaches))
        while process.poll() is None:
            for place, handle in enumerate(both):
                used = driver.nvmlDeviceGetMemoryInfo(handle).used - idle[place]
                peaks[place] = max(peaks[place], used)
                running = {each.pid for each in driver.nvmlDeviceGetComputeRunningProcesses(handle)}
                pids[place] |= running - before[place]
            if lock.exists():
                holders.add(lock.read_text(encoding="utf-8", errors="replace"))
            time.sleep(0.05)
    finish(process)
    assert peaks[1] > LEAST_BYTES > peaks[0], "memory of the first and the second GPU over idle"
    assert len(pids[1]) >= len(approaches) and not pids[0], "compute processes on each"
    assert any(str(tmp_path) in holder for holder in holders), "who held the second GPU's lock"
    environment = read_json(tmp_path / "results/tiny/environment.json", Environment)
    assert environment.gpu is not None and environment.gpu.uuid == second
    found = records(tmp_path)
    assert {record.approach: record.gpu_uuid for record in found} == dict.fromkeys(approaches, second)
    assert all((record.memory.device_over_idle_bytes or 0) > LEAST_BYTES for record in found), "telemetry's figure"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("visible", "at_once"), [(("0", "1"), True), (("1", "1"), False)])
def test_two_studies_run_at_once_on_two_gpus_and_in_turns_on_one(
    visible: tuple[str, str], at_once: bool, tmp_path: Path
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    runs = ("baseline/1", "cuda_graph/1")
    processes = [start(folder, gpu, *runs) for folder, gpu in zip(folders, visible, strict=True)]
    for process in processes:
        finish(process)
    found = [record for folder in folders for record in records(folder)]
    assert {record.gpu_uuid for record in found} == {uuids()[int(gpu)] for gpu in visible}
    logs = [path for folder in folders for path in folder.glob("results/tiny/logs/**/*.log")]
    waited = any("waiting for GPU-" in path.read_text(encoding="utf-8") for path in logs)
    spans = sorted((datetime.fromisoformat(each.started_at).timestamp(), each.duration_s) for each in found)
    overlap = any(start_s + duration_s > next_s + 1.0 for (start_s, duration_s), (next_s, _) in pairwise(spans))
    assert waited is not at_once
    assert at_once or not overlap, "the time of day of a record is cut to seconds"


@pytest.mark.timeout(900)
def test_one_study_measures_on_two_gpus_at_once(tmp_path: Path) -> None:
    runs = [f"{approach}/{repeat}" for approach in ("baseline", "cuda_graph") for repeat in (1, 2)]
    finish(start(tmp_path, ",".join(uuids()[:2]), *runs, at_once=2))
    found = records(tmp_path)
    assert {record.gpu_uuid for record in found} == set(uuids())
    assert len(found) == len(runs)
