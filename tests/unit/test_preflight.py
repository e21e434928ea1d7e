"""What is said of a study before it runs: needs against what is free, as estimates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import check
from firsttoken.files import write_json
from firsttoken.plan import ModelManifest
from firsttoken.preflight import check_study, findings, manifest_file
from firsttoken.yaml_files import read_yaml

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize(("total_gib", "free_gib", "verdict"), [(64, 60, "ok"), (64, 4, "warn"), (16, 12, "no")])
def test_the_float32_reference_of_a_7b_model_needs_28_gb(
    total_gib: int, free_gib: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    memory = SimpleNamespace(total=total_gib << 30, available=free_gib << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    changes: dict[str, Any] = {"study": "x", "approaches": ["baseline", "tensorrt_llm"], "experiments": []}
    study = check_study(read_yaml(CONFIG / "config.yaml") | changes, CONFIG, tmp_path)
    write_json(manifest_file(study, tmp_path), manifest())
    found = {finding.what: finding for finding in findings(study, tmp_path)}
    assert found["model"].detail.startswith("7,000 M parameters, float32, context 4096")
    assert found["tensorrt_llm"].verdict == "warn" and "GiB" not in found["tensorrt_llm"].detail
    for what in ("baseline", "reference"):
        assert found[what].verdict == verdict
        assert "host memory: about 28.2 GiB needed (an estimate)" in found[what].detail


def test_make_check_is_a_table_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 where the study could not start: a wrong config, or nothing that can run."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = tmp_path / "study.yaml"
    for text, status, said in (
        ("approaches: [baseline, tensorrt_llm]", 0, "The study x can start."),
        ("approaches: [tensorrt_llm]", 1, "firsttoken: the study x cannot run here"),
        ("approaches: [turbo]", 1, "firsttoken: config key approaches: found 'turbo'"),
    ):
        config.write_text(f"study: x\n{text}\n")
        assert check.main([str(config)]) == status
        out, err = capsys.readouterr()
        assert said in (err if status else out) and err.count("\n") == status
    assert all(len(line) <= 100 for line in out.splitlines())


def test_variables_that_change_what_is_measured_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    config = tmp_path / "study.yaml"
    config.write_text("study: x\napproaches: [baseline]\n")
    assert check.main([str(config)]) == 1
    assert "unset CUDA_LAUNCH_BLOCKING TORCHDYNAMO_DISABLE" in " ".join(capsys.readouterr().out.split())


def test_a_gpu_that_is_not_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study for a cluster's GPU may start from a machine without one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    changes: dict[str, Any] = {"study": "x", "device": "cuda", "hardware": {"gpu": "NVIDIA H200"}, "experiments": []}
    study = check_study(read_yaml(CONFIG / "config.yaml") | changes, CONFIG, tmp_path)
    found = {finding.what: finding for finding in findings(study, tmp_path)}
    assert (found["GPU"].verdict, found["GPU"].detail) == (
        "warn", "no GPU here; the jobs need a machine with NVIDIA H200 (hardware.gpu)",
    )  # fmt: skip


def manifest() -> ModelManifest:
    return ModelManifest(
        name="x", source="synthetic", origin="", revision="", architecture="LlamaForCausalLM", weights="random",
        parameters=7_000_000_000, weight_bytes=28_000_000_000, read_bytes_per_token=0, kv_bytes_per_token=4 * 2**18,
        flops_per_token=0, max_context=4096, vocab_size=32_000, files=(),
    )  # fmt: skip
