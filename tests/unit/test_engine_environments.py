"""What our package imports in the environments of engines, under CPython 3.12 with nothing else installed.

Each engine brings its own torch, transformers or numpy, or none; our code there may use only the packages listed here,
in the versions of envs/tensorrt_llm.yaml, which has the oldest. The source is read everywhere; where a CPython 3.12 is
found, the imports and a whole benchmark run are tried in it.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from firsttoken.approaches.base import approach_class, approach_names
from firsttoken.child_job import run_module
from firsttoken.files import read_json
from firsttoken.measure.probe import probe
from firsttoken.measure.run_request import RunJob
from firsttoken.results import RunRecord
from unit.measure.fakes import make_outputs, make_request

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
NAMES = ("numpy", "pyarrow", "msgspec", "psutil", "nvidia-ml-py")
IMPORTED_AS = {"nvidia-ml-py": "pynvml"}
ENGINES = [name for name in approach_names() if approach_class(name).environment != "base"]
ENTRIES = [
    SCRIPTS / name
    for name in (
        "prepare_engine.py",
        "benchmark_approach.py",
        "firsttoken/measure/run.py",
        "firsttoken/measure/probe.py",
        "firsttoken/external/prepare.py",
    )
]


def imported_at_once(tree: ast.AST) -> Iterator[str]:
    """Names of the modules that are imported when a file is: those inside functions come later, if at all."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imported_at_once(node)


def package_files(name: str) -> list[Path]:
    """The file of a module of ours and the `__init__.py` of the packages above it; a class or function has none."""
    parts = name.split(".")
    places = [SCRIPTS.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    files = [place / "__init__.py" for place in places] + [places[-1].with_suffix(".py")]
    return [file for file in files if file.is_file()]


def foreign_modules(start: list[Path]) -> dict[str, Path]:
    """Top-level modules that are neither ours nor Python's -> a file that imports them at once."""
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    queue = list(start)
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported_at_once(ast.parse(path.read_text(encoding="utf-8"))):
            top = name.split(".")[0]
            if top == "firsttoken":
                queue.extend(package_files(name))
            elif top not in sys.stdlib_module_names:
                found[top] = path
    assert len(seen) > 20, "the walk follows our own imports"
    return found


def test_what_runs_there_imports_only_what_every_environment_has() -> None:
    start = [*ENTRIES, *(SCRIPTS / "firsttoken" / "approaches" / f"{name}.py" for name in ENGINES)]
    found = foreign_modules(start)
    assert set(found) <= {IMPORTED_AS.get(name, name) for name in NAMES}, found


def pinned() -> list[str]:
    """NAMES with the versions of the environment file."""
    content = yaml.safe_load((ROOT / "envs" / "tensorrt_llm.yaml").read_text())
    pip = next(part["pip"] for part in content["dependencies"] if isinstance(part, dict))
    return [pin for pin in pip if pin.partition("==")[0] in NAMES]


def find_python() -> str | None:
    """A CPython 3.12 that runs: on PATH, or one of pyenv's (its shim on PATH may be there and not work)."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python3.12"), *sorted(pyenv.glob("versions/3.12.*/bin/python3.12"))]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return str(candidate)
    return None


@pytest.fixture(scope="session")
def python_312() -> Path:
    """A virtual environment with only those packages, made once for this machine."""
    found = find_python()
    if found is None:
        pytest.skip("no CPython 3.12 on PATH or in pyenv")
    folder = Path(tempfile.gettempdir()) / f"firsttoken-imports-312-{os.getuid()}"
    done, pins = folder / ".done", pinned()
    assert len(pins) == len(NAMES)
    if not done.exists() or done.read_text() != repr(pins):
        subprocess.run([found, "-m", "venv", "--clear", str(folder)], check=True)
        made = subprocess.run(
            [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *pins],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            pytest.skip(f"pip cannot install {', '.join(pins)}: {made.stderr.strip().splitlines()[-1]}")
        done.write_text(repr(pins))
    return folder / "bin" / "python"


def run_312(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [str(python), *arguments], env=environment, capture_output=True, text=True, cwd=ROOT, timeout=200
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", ENTRIES, ids=lambda path: path.stem)
def test_it_is_imported_as_an_engines_own_process_imports_it(python_312: Path, script: Path) -> None:
    """Under another name than `__main__`, and with every approach that runs there."""
    approaches = "; ".join(f"import firsttoken.approaches.{name}" for name in ENGINES)
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__worker__'); {approaches}"
    run = run_312(python_312, "-c", code)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_a_run_in_it_writes_all_its_files(python_312: Path, tmp_path: Path) -> None:
    """What is imported late, in the middle of a run, is there too."""
    request, outputs = make_request(tmp_path, approach="null", requests_per_length=4), make_outputs(tmp_path)
    run_module(
        str(python_312), "firsttoken.measure.run", RunJob(request=request, outputs=outputs, log=str(tmp_path / "log"))
    )
    record = read_json(outputs.record, RunRecord)
    assert (record.status, record.requests) == ("measured", 8), record.reason
    assert "torch" not in record.versions and record.versions["numpy"].startswith("1.")
    assert all(Path(path).exists() for path in msgspec.structs.astuple(outputs))


@pytest.mark.slow
def test_it_is_asked_what_can_run_in_it(python_312: Path) -> None:
    found = probe(str(python_312), "cpu", "float32", tuple(ENGINES))
    assert found.python.startswith("3.12") and "torch" not in found.packages
    assert {availability.status for availability in found.approaches.values()} == {"unavailable"}
