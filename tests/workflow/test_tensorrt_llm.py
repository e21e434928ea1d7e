"""TensorRT-LLM in the workflow: looked at again with the deployment method, and its rules inside a container."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from firsttoken.files import read_json
from firsttoken.results import EngineManifest, RunRecord
from workflow import container
from workflow.project import Project

pytestmark = pytest.mark.workflow

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
SETTINGS = "scripts/firsttoken/external/tensorrt_llm/settings.py"
ON_A_GPU = "device: cuda\nhardware: {gpu: NVIDIA Imaginary}\nmodel: {dtype: float32}\n"


def with_the_containers_python(project: Project, version: str) -> None:
    project.edit(SETTINGS, '"python": ("3.12",)', f'"python": ("{version}",)')


def test_another_deployment_method_looks_at_it_again(project: Project, tmp_path: Path) -> None:
    """It was unavailable; on a GPU with a container its engine is built and its runs are made anew."""
    project.append(project.config, ON_A_GPU)
    with_the_containers_python(project, HERE)
    environment, _ = container.install(tmp_path)
    without = project.dry_run(env=environment)
    assert "prepare_engine" not in without.rules
    assert ("tensorrt_llm", 1) in without.runs
    deployed = project.dry_run("--sdm", "apptainer", env=environment)
    assert deployed.rules["prepare_engine"] == 1 and deployed.runs == without.runs
    assert {key: deployed.rules[key] for key in without.rules} == without.rules


def test_a_container_of_another_python_is_unavailable_with_its_reason(project: Project, tmp_path: Path) -> None:
    project.append(project.config, ON_A_GPU + "on_unavailable: fail\n")
    with_the_containers_python(project, "3.99")
    environment, _ = container.install(tmp_path)
    result = project.snakemake("--dry-run", "--sdm", "apptainer", env=environment)
    assert result.returncode == 1
    line = next(line for line in result.stderr.splitlines() if line.startswith("firsttoken:"))
    assert "Python 3.99" in line and "msgspec" in line


def test_the_rules_script_starts_in_a_container_that_has_no_packages(project: Project, tmp_path: Path) -> None:
    """Its Python has no Snakemake, msgspec or anything: they come from the mounted paths. Then it asks for a GPU."""
    project.append(project.config, ON_A_GPU)
    with_the_containers_python(project, HERE)
    environment, record = container.install(tmp_path)
    result = project.snakemake("--sdm", "apptainer", "--", "results/tiny/engine/tensorrt_llm.json", env=environment)
    assert result.returncode == 1
    assert "firsttoken: no CUDA device is visible here" in result.stderr, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    # Without "nv" the container does not see the GPU; mem_mb is what cluster executors read.
    assert container.calls(record) == [{"nv": "1", "gpu": 1, "mem_mb": 64 * 1024}]
    assert not (project.folder / "results" / "tiny" / "engine" / "tensorrt_llm.json").exists()


def test_both_rules_against_the_stand_in(project: Project) -> None:
    """From the model's folder to samples: engine, manifest, log, then a run that streams from it in a worker."""
    project.append(project.config, ON_A_GPU.replace("Imaginary", "Test"))
    stand_in = str(project.folder / "tests" / "fakes" / "trtllm_site")
    shutil.rmtree(project.folder / "results" / "tiny" / "raw" / "tensorrt_llm")
    raw = "results/tiny/raw/tensorrt_llm/1"
    result = project.snakemake("--", f"{raw}.parquet", env={"PYTHONPATH": stand_in})
    assert result.returncode == 0, result.stderr[-4000:]
    manifest = read_json(project.folder / "results" / "tiny" / "engine" / "tensorrt_llm.json", EngineManifest)
    assert {entry.path for entry in manifest.files} == {"build.log", "config.json", "rank0.engine"}
    record = read_json(project.folder / f"{raw}.json", RunRecord)
    assert (record.status, record.reason, record.counters["worker_processes"]) == ("measured", "", 1)
    assert record.counters["measured.executor_requests"] == record.requests == 8
