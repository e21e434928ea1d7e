"""The workflow is used from another folder: as a module of another workflow, by its Snakefile, with --directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workflow.project import fresh_clone

pytestmark = pytest.mark.workflow
MODULE = """
configfile: "config/config.yaml"

module firsttoken:
    snakefile: "{clone}/Snakefile"
    config: config

use rule * from firsttoken
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_clone(tmp_path_factory.mktemp("a clone"))


@pytest.mark.parametrize("how", ["module", "snakefile", "directory"])
def test_from_elsewhere(how: str, clone: Path, tmp_path: Path) -> None:
    """Seen failing: no module firsttoken; config/config.yaml: no such file."""
    words = {
        "module": [],
        "snakefile": ["--snakefile", f"{clone}/Snakefile"],
        "directory": ["--directory", str(tmp_path)],
    }[how]
    if how == "module":
        shutil.copytree(clone / "config", tmp_path / "config", ignore=lambda *_: ["corpus.txt", "claims"])
        (tmp_path / "Snakefile").write_text(MODULE.format(clone=clone), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--resources", "gpu=1", *words]
    result = subprocess.run(
        [*command, "--configfile", f"{clone}/config/studies/tiny.yaml"],
        cwd=clone if how == "directory" else tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "Process 2 of baseline" in result.stdout
    assert "Process 1 of tensorrt_llm: unavailable" in result.stdout
    assert not (clone / "results").exists() and not (clone / ".snakemake" / "log").exists()
