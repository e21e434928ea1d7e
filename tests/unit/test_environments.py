"""The lock, the conda environment and what the package imports agree."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker

from firsttoken.approaches.base import approach_class, approach_names
from firsttoken.external.tensorrt_llm.settings import CONTAINER, VERSION

ROOT = Path(__file__).parents[2]
# import name -> distribution, where they differ
DISTRIBUTIONS = {"yaml": "pyyaml", "pynvml": "nvidia-ml-py", "markdown_it": "markdown-it-py"}
# Brought by others: the engines' environments, the CUDA build of torch.
ELSEWHERE = {"vllm", "tensorrt_llm", "tensorrt", "triton", "cuda", "mpi4py", "gguf"}
# Locked for other systems, or for some Pythons only.
ELSEWHERE_LOCKED = {"colorama", "httpx2-jsfetch", "pyreadline3", "pywin32", "win32-setctime", "six"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    return {canonical(name): version for name, version in (line.split("==") for line in lines if "==" in line)}


ENTRY = re.compile(r"([\w.-]+==[\w.]+)( ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def locked(name: str) -> dict[str, str]:
    """The versions in a lock file on this platform and Python, every line of it pinned and hashed."""
    text = "".join(line for line in (ROOT / name).read_text(encoding="utf-8").splitlines(True) if line[0] != "#")
    assert ENTRY.sub("", text) == "", f"{name}: a line without an exact version or hash, or with a local suffix"
    return pins([pin for pin, marker, _ in ENTRY.findall(text) if not marker or Marker(marker[3:]).evaluate()])


LOCK = locked("requirements.lock")
TORCH = {"torch": locked("requirements-torch-cuda.lock")["torch"]}


def wanted(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").split()
    return {canonical(re.split(r"[\[<>=]", line.split(",")[0])[0]) for line in lines if line[0].isalpha()}


def test_the_lock_installs_with_and_without_a_gpu() -> None:
    assert not [name for name in LOCK if name.startswith(("nvidia-cu", "nvidia-nccl", "triton", "torch"))]
    assert locked("requirements-torch-cpu.lock") == TORCH
    cuda = locked("requirements-torch-cuda.lock")
    assert {name: LOCK[name] for name in cuda if name in LOCK} == {name: cuda[name] for name in cuda if name in LOCK}


def test_the_lock_holds_all_that_is_asked_for() -> None:
    assert wanted("requirements.in") | wanted("requirements-dev.in") <= set(LOCK | TORCH)


def test_make_installs_nothing_without_a_hash() -> None:
    """Seen failing: versions alone, which an index or a proxy may fill with other bytes. Hashed when they were fetched:
    the wheels that a host without network is given."""
    lines = [
        line
        for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
        if re.search("pip.install|PIP_INSTALL", line) and "--no-index --no-deps wheelhouse/" not in line
    ]
    assert len(lines) >= 4
    assert [line for line in lines if "--require-hashes" not in line and "$(PIP_INSTALL)" not in line] == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", ["requirements.lock", "envs/vllm.lock", "envs/llama_cpp.lock"])
def test_a_locks_markers_leave_nothing_out_on_linux(name: str, python: str) -> None:
    """One version of each package for every Python and both machines that we name."""
    text = (ROOT / name).read_text(encoding="utf-8")
    every = {canonical(pin.split("==")[0]) for pin, _, _ in ENTRY.findall(text)}
    for machine in ("x86_64", "aarch64"):
        linux = {"python_full_version": f"{python}.4", "sys_platform": "linux", "platform_machine": machine}
        found = [
            canonical(pin.split("==")[0])
            for pin, marker, _ in ENTRY.findall(text)
            if not marker or Marker(marker[3:]).evaluate(linux)
        ]
        assert len(found) == len(set(found))
        assert every - set(found) <= ELSEWHERE_LOCKED


def test_the_conda_environment_has_the_locks_versions() -> None:
    environment = yaml.safe_load((ROOT / "envs" / "base.yaml").read_text(encoding="utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    found = pins(pip)
    assert len(found) == len(pip), "every package there is pinned"
    assert found == {name: (LOCK | TORCH)[name] for name in found}
    assert set(found) == wanted("requirements.in") - {"snakemake", "snakemake-interface-logger-plugins"}


def engine_environments() -> list[str]:
    return sorted(path.stem for path in (ROOT / "envs").glob("*.lock"))


# What the harness imports in every environment; safetensors where an approach gives logits.
HARNESS = {"numpy", "pyarrow", "msgspec", "psutil", "nvidia-ml-py"}


@pytest.mark.parametrize("name", engine_environments())
def test_an_engines_lock_is_exact_and_holds_what_is_asked_for_and_what_the_harness_needs(name: str) -> None:
    lock = locked(f"envs/{name}.lock")
    approaches = [approach for approach in map(approach_class, approach_names()) if approach.environment == name]
    needed = HARNESS | ({"safetensors"} if any(approach.gives_logits for approach in approaches) else set())
    assert approaches and wanted(f"envs/{name}.in") | needed <= set(lock)


def test_llama_cpps_environments_agree() -> None:
    """The lock, the conda environment, and the project's own lock where both have a package."""
    lock = locked("envs/llama_cpp.lock")
    environment = yaml.safe_load((ROOT / "envs" / "llama_cpp.yaml").read_text(encoding="utf-8"))
    found = pins(next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)))
    assert set(found) == wanted("envs/llama_cpp.in") and found == {name: lock[name] for name in found}
    assert {name: lock[name] for name in lock.keys() & LOCK.keys()} == {
        name: LOCK[name] for name in lock.keys() & LOCK.keys()
    }


def test_what_the_package_imports_is_asked_for() -> None:
    asked = wanted("requirements.in")
    ours = {"firsttoken", "snakemake", *(path.stem for path in (ROOT / "scripts").glob("*"))}
    for path in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - ELSEWHERE:
                if name not in ours:
                    assert canonical(DISTRIBUTIONS.get(name, name)) in asked, f"{path}: {name} is in no requirements"


def test_containers_are_named_by_digest() -> None:
    """Seen failing: a tag, which its owner may move to another image."""
    containers = yaml.safe_load((ROOT / "envs" / "containers.yaml").read_text(encoding="utf-8"))
    assert containers["tensorrt_llm"].split("@")[0] == f"docker://{CONTAINER}".removesuffix(f":{VERSION}")
    for image in containers.values():
        assert re.fullmatch(r"docker://[\w./-]+@sha256:[0-9a-f]{64}", image), image
