"""What an offline host is given, and an interpreter that cannot make it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import wheelhouse


def test_what_the_host_brings_is_left_out_by_any_spelling() -> None:
    """Seen failing: names compared as they are written; hashes left out."""
    entry = "snakemake==9.27.1 ; sys_platform == 'linux' \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd"
    lock = f"# a comment\nnumpy==2.1 \\\n    --hash=sha256:12\nnvidia_ml.py==13\n{entry}\nruff==0.9\n"
    assert wheelhouse.lacking(lock, {"numpy", "nvidia-ml-py"}) == [entry]


def test_another_word_than_a_version_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, wheelhouse.__file__, "--python", "python3.12", "--out", str(tmp_path / "wheels")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    said = "firsttoken: PYTHON=python3.12: is no version of Python; give the host's, e.g. PYTHON=3.12\n"
    assert done.stderr == said
    assert not (tmp_path / "wheels").exists()
