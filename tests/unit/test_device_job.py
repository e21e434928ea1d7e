"""A measuring job runs on the GPU that its config promises, or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from firsttoken import device_job as module
from firsttoken import hardware
from firsttoken.device_job import device_job
from firsttoken.results import Gpu

H200 = Gpu(name="NVIDIA H200", uuid="GPU-1", memory_bytes=1 << 37, compute_capability="9.0")
OTHER = Gpu(name="NVIDIA H200", uuid="GPU-0", memory_bytes=1 << 37, compute_capability="9.0")


@pytest.fixture(autouse=True)
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That CUDA sees."""
    monkeypatch.setattr(hardware, "LOCK_FOLDER", tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "scripts/measure_ceilings.py", raising=False)
    monkeypatch.setattr(module, "require_gpus", lambda: [H200, OTHER])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,0")
    monkeypatch.delenv(module.GPUS, raising=False)


def snakemake(folder: Path, expected_gpu: str) -> SimpleNamespace:
    return SimpleNamespace(
        rule="measure_ceilings",
        log=[str(folder / "x.log")],
        input={},
        output=[],
        wildcards={},
        resources={"gpu": 1},
        params=SimpleNamespace(expected_gpu=expected_gpu, items={}.items),
    )


@pytest.mark.parametrize(("visible", "left"), [("GPU-1,0", "GPU-1"), ("GPU-, 0", "GPU-1"), (" 2, GPU-1", "2")])
def test_no_other_gpu_than_the_first_is_seen(
    visible: str, left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No library may spread over the others. Seen failing: a UUID in short, which not all of them take."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with device_job(snakemake(tmp_path, ""), "cuda"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == left


@pytest.mark.parametrize(("visible", "left"), [("GPU-1,GPU-", "GPU-0"), ("GPU-1, 3", "3"), (None, "1")])
def test_of_several_gpus_that_a_study_may_use_it_is_one_that_is_free(
    visible: str | None, left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.GPUS, "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible) if visible else monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with hardware.device_lock("GPU-1"), device_job(snakemake(tmp_path, ""), "cuda") as held:
        assert held.gpu == OTHER
        assert os.environ["CUDA_VISIBLE_DEVICES"] == left


@pytest.mark.parametrize("expected", ["", "NVIDIA H200"])
def test_the_gpu_that_was_promised(expected: str, tmp_path: Path) -> None:
    with device_job(snakemake(tmp_path, expected), "cuda") as held:
        assert held.gpu == H200


def test_another_gpu_fails_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), device_job(snakemake(tmp_path, "NVIDIA A100"), "cuda"):
        pytest.fail("it ran")
    assert "hardware.gpu: expected 'NVIDIA A100', this job has 'NVIDIA H200'" in capsys.readouterr().err
