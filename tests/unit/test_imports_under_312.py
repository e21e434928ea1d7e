"""What the scripts of TensorRT-LLM's rules import of our package, under CPython 3.12 with nothing else installed.

TensorRT-LLM 1.2.1 brings transformers 4.57, torch 2.9 and numpy 1; our code there may use only the packages listed
here, in the versions of envs/tensorrt_llm.yaml.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAMES = ("numpy", "pyarrow", "msgspec", "psutil", "nvidia-ml-py")
MODULES = (
    "firsttoken.approaches.base",
    "firsttoken.approaches.tensorrt_llm",
    "firsttoken.approaches.tensorrt_llm_nograph",
    "firsttoken.files",
    "firsttoken.measure.harness",
    "firsttoken.records",
    "firsttoken.runtime.trtllm_engine",
    "firsttoken.study.job",
)


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
            return candidate
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


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_imports_with_the_little_that_is_there(python_312: Path, module: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    run = subprocess.run(
        [str(python_312), "-c", f"import {module}"], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
