"""What an offline host is given, and an interpreter that cannot make it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wheelhouse


def test_what_the_host_brings_is_left_out_by_any_spelling() -> None:
    """Seen failing: names compared as they are written; hashes left out."""
    entry = "snakemake==9.27.1 ; sys_platform == 'linux' \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd"
    lock = f"# a comment\nnumpy==2.1 \\\n    --hash=sha256:12\nnvidia_ml.py==13\n{entry}\nruff==0.9\n"
    assert wheelhouse.lacking(lock, {"numpy", "nvidia-ml-py"}) == [entry]


def test_an_interpreter_that_only_seems_to_be_there_is_one_line(tmp_path: Path) -> None:
    """Seen failing: any file of that name taken; pip's failure was then a traceback."""
    stand_in = tmp_path / "python3.12"
    stand_in.write_text("#!/bin/sh\nexit 127\n")
    stand_in.chmod(0o755)
    command = [sys.executable, wheelhouse.__file__, "--python", str(stand_in), "--out", str(tmp_path / "wheels")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr.startswith(f"firsttoken: {stand_in}: no interpreter with pip here") and done.stderr.count("\n") == 1
    )
    assert not (tmp_path / "wheels").exists()


@pytest.mark.parametrize("python", ["no-such-python", sys.executable])
def test_which_interpreters_run(python: str) -> None:
    assert wheelhouse.runs_pip(python) == (python == sys.executable)
