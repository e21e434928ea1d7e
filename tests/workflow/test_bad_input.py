"""Each mistake ends the program before any job, with one line and a non-zero status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workflow.project import Project, fresh_clone

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_clone(tmp_path_factory.mktemp("bad input"))


def complaint(clone: Path, config: str) -> str:
    """What a run with this config says; asserts that it is one line, that it fails and that nothing was made."""
    (clone / "bad.yaml").write_text(config, encoding="utf-8")
    result = Project(clone, config="bad.yaml").snakemake()
    assert result.returncode != 0, result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("firsttoken: ")]
    noise = [
        line
        for line in result.stderr.splitlines()
        if line and not line.startswith(("firsttoken: ", "Using ", "Config file config/"))
    ]
    assert len(lines) == 1, result.stderr
    assert not noise, result.stderr
    assert not (clone / "results").exists()
    return lines[0]


CASES = [
    ("unknown_key: 1", "'unknown_key'"),
    ("approaches: [baseline, turbo]", "'turbo'"),
    ("workload: {prompt_lengths: [0]}", "found 0"),
    ("workload: {prompt_lengths: [-3]}", "found -3"),
    ("workload: {prompt_lengths: [many]}", "'many'"),
    ("workload: {prompt_lengths: [10, 10]}", "10 stands there twice"),
    ("workload: {prompt_lengths: [100000]}", "longer than the model's context"),
    ("workload: {repeats: 0}", "workload.repeats"),
    ("model: {source: local, path: no/such/folder}", "no/such/folder"),
    ("model: {source: huggingface, repo: a/b}", "model.revision"),
    ("model: {dtype: float16}\ndevice: cpu", "model.dtype"),
    ("study: 'a/b'", "'a/b'"),
    ("device: cuda", "no CUDA device"),
    ("on_unavailable: fail", "tensorrt_llm cannot run here"),
]


@pytest.mark.parametrize(("config", "words"), CASES, ids=[case[0] for case in CASES])
def test_one_line(clone: Path, config: str, words: str) -> None:
    assert words in complaint(clone, config)


def test_a_local_model_that_is_only_a_pickle(clone: Path) -> None:
    folder = clone / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "safetensors" in complaint(clone, f"model: {{source: local, path: '{folder}'}}")


def test_a_config_that_is_no_yaml(clone: Path) -> None:
    (clone / "bad.yaml").write_text("workload: [1", encoding="utf-8")
    result = Project(clone, config="bad.yaml").snakemake()
    assert result.returncode != 0
    assert "not valid JSON or YAML" in result.stderr


@pytest.mark.parametrize("limit", ["gpu=0"])
def test_without_its_slot_a_measuring_job_refuses(finished: Project, project: Project, limit: str) -> None:
    (project.folder / "results/tiny/raw/null/1.json").unlink()
    result = project.snakemake("--resources", limit)
    assert result.returncode != 0
    assert "needs the resource gpu=1" in result.stdout + result.stderr
