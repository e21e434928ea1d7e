"""The lock, the conda environment and what the package imports agree."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import yaml

from firsttoken.external.tensorrt_llm.settings import CONTAINER

ROOT = Path(__file__).parents[2]
# import name -> distribution, where they differ
DISTRIBUTIONS = {"yaml": "pyyaml", "pynvml": "nvidia-ml-py", "markdown_it": "markdown-it-py"}
# Brought by others: the environments of TensorRT-LLM and vLLM, the CUDA build of torch.
ELSEWHERE = {"tensorrt_llm", "vllm", "tensorrt", "triton", "mpi4py"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    return {canonical(name): version for name, version in (line.split("==") for line in lines if "==" in line)}


LOCK = pins((ROOT / "requirements.lock").read_text(encoding="utf-8").split())


def wanted(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").split()
    return {canonical(re.split(r"[\[<>=]", line.split(",")[0])[0]) for line in lines if line[0].isalpha()}


def test_the_lock_is_exact_and_installs_with_and_without_a_gpu() -> None:
    assert LOCK
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").split():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", line), f"{line}: no exact version, or a local suffix"
    assert not [name for name in LOCK if name.startswith(("nvidia-cu", "nvidia-nccl", "triton"))]


def test_the_lock_holds_all_that_is_asked_for() -> None:
    assert wanted("requirements.in") | wanted("requirements-dev.in") <= set(LOCK)


def test_the_conda_environment_has_the_locks_versions() -> None:
    environment = yaml.safe_load((ROOT / "envs" / "base.yaml").read_text(encoding="utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    found = pins(pip)
    assert len(found) == len(pip), "every package there is pinned"
    assert found == {name: LOCK[name] for name in found}
    assert set(found) == wanted("requirements.in") - {"snakemake"}


def test_what_the_package_imports_is_asked_for() -> None:
    asked = wanted("requirements.in")
    ours = {"firsttoken", "snakemake", *(path.stem for path in (ROOT / "scripts").glob("*.py"))}
    for path in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - ELSEWHERE:
                if name not in ours:
                    assert canonical(DISTRIBUTIONS.get(name, name)) in asked, f"{path}: {name} is in no requirements"


def test_the_engines_rules_run_in_the_container_that_the_scripts_name() -> None:
    containers = yaml.safe_load((ROOT / "envs" / "containers.yaml").read_text(encoding="utf-8"))
    assert containers["tensorrt_llm"] == f"docker://{CONTAINER}"
