"""Which interpreter an environment has, and what decides whether its approaches can run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from firsttoken.approaches.base import Approach
from firsttoken.approaches.tensorrt_llm import TensorRTLLM
from firsttoken.approaches.vllm import Vllm
from firsttoken.measure.environments import Environments
from firsttoken.measure.probe import probe

NAMES = ("null", "vllm", "vllm_2p")


def environments(deployment: tuple[str, ...] = (), **configured: str) -> Environments:
    return Environments(names=NAMES, device="cuda", dtype="float16", deployment=deployment, configured=configured)


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the environment that runs Snakemake were there; nothing is known from another test."""
    probe.cache_clear()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    return tmp_path


def test_the_configs_interpreter_comes_before_that_of_make_env(prefix: Path) -> None:
    assert environments().python("vllm") == ""
    made = prefix / "venv-vllm" / "bin" / "python"
    made.parent.mkdir(parents=True)
    made.touch()
    assert environments().python("vllm") == str(made)
    assert environments(vllm="/opt/python").python("vllm") == "/opt/python"
    assert environments().python("base") == ""


def test_where_snakemake_deploys_what_make_env_made_is_not_used(prefix: Path) -> None:
    (prefix / "venv-vllm" / "bin").mkdir(parents=True)
    (prefix / "venv-vllm" / "bin" / "python").touch()
    assert environments(("conda",)).python("vllm") == ""
    assert environments(("conda",), vllm="/opt/python").python("vllm") == "/opt/python"


def test_availability_is_that_of_the_interpreter_or_of_what_will_be_deployed(prefix: Path) -> None:
    assert environments().availability("vllm").reason == "vllm is not installed here: make env-vllm"
    assert environments(("conda",)).availability("vllm").status == "measured"
    assert "No such file" in environments(("conda",), vllm="/no/python").availability("vllm").reason


def test_what_is_approximate_is_known_before_it_runs(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Approach, "approximate", classmethod(lambda cls, device, dtype: f"{dtype} on {device}"))
    for found in environments().availability("null"), environments(("conda",)).availability("vllm"):
        assert found.status == "approximate" and found.reason.startswith("float16 on cuda; its error stands beside")


def test_software_has_the_version_of_each_engine_and_the_configured_path(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vllm, "packages", ("vllm", "pytest"))
    found = environments(vllm=sys.executable).software()
    assert set(found) == {"base", "vllm"}
    assert found["vllm"]["interpreter"] == sys.executable and found["base"]["interpreter"] == ""
    assert "pytest" not in found["base"]["packages"]
    assert environments().software()["vllm"]["packages"]["pytest"] == pytest.__version__
    assert TensorRTLLM.environment not in found
