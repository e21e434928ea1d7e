"""The state of a machine, a line each; nothing that is missing or fails is more than a line."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firsttoken import doctor
from firsttoken.doctor import examine, versions
from firsttoken.measure import sampler
from firsttoken.preflight import Finding, as_table

ROOT = Path(__file__).parents[2]
FAKES = Path(__file__).parents[1] / "fakes" / "nvml"


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(doctor, "CHECKS", (doctor._gpu, doctor._compiler, doctor._room, doctor._hub))
    yield
    sys.modules.pop("pynvml", None)


def found(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, Finding]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return {finding.what: finding for finding in examine(ROOT)}


def test_what_limits_and_disturbs_a_gpu_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    first = found(monkeypatch, CUDA_VISIBLE_DEVICES="0")
    assert first["GPU"].detail.startswith("NVIDIA A100, 80 GiB, compute capability 8.0")
    for what, words in {"persistence": "nvidia-smi -pm 1", "GPU power": "nvidia-smi -pl 400"}.items():
        assert first[what].verdict == "warn" and words in first[what].detail
    monkeypatch.delitem(sys.modules, "pynvml")
    other = found(monkeypatch, CUDA_VISIBLE_DEVICES="1", FAKE_NVML_OTHER="1", FAKE_NVML_REASONS="0x40")
    assert "others compute on it (process 1" in other["GPU processes"].detail
    assert "hardware thermal slowdown" in other["GPU throttled"].detail
    assert (other["persistence"].verdict, other["GPU power"].verdict, other["GPU clocks"].verdict) == ("ok", "ok", "ok")


def test_what_a_driver_does_not_tell_is_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = re.findall(r'"(nvml\w+)"', inspect.getsource(doctor) + inspect.getsource(sampler))
    said = found(monkeypatch, FAKE_NVML_REFUSED=" ".join(asked), CUDA_VISIBLE_DEVICES="0")
    assert said.keys() & {"GPU processes", "persistence", "GPU clocks", "GPU power", "GPU throttled"} == set()
    assert said["GPU"].detail.startswith("unknown, memory unknown")


@pytest.mark.parametrize(
    ("environment", "what", "words"),
    [
        ({"CUDA_VISIBLE_DEVICES": "GPU-3"}, "gpu", "found 'GPU-3', which names no of this machine's devices"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "GPU", "none is visible"),
        ({"PATH": "/nowhere"}, "compiler", "apt-get install g++"),
        ({"CXX": "/nowhere/g++"}, "compiler", "CXX=/nowhere/g++ is no program"),
        ({"HF_TOKEN": "hf_secret"}, "hub login", "a token is here"),
    ],
)
def test_one_line_each(environment: dict[str, str], what: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = found(monkeypatch, **environment)
    assert words in said[what].detail
    assert "hf_secret" not in as_table(list(said.values()))


def test_the_version_has_the_commit_and_whether_files_were_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "git_state", lambda _: ("0" * 40, True))
    said = versions(ROOT)
    assert re.fullmatch(r"\d+\.\d+\.\d+, commit 0{40}\+changes", said["firsttoken"])
    assert set(said) == {"firsttoken", "Python", "torch", "transformers", "snakemake"}
