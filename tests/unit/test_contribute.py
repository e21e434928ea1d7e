"""The commands of contribute.py where they end early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
ACCEPT = """
import sys, contribute
contribute.history_problem = lambda root: None  # a clone without history accepts nothing
sys.exit(contribute.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_accept_says_so_in_one_line(number: signal.Signals, tmp_path: Path) -> None:
    """Seen failing: nothing was said. The archive is a pipe that nobody writes to, so that it is still read."""
    archive = tmp_path / "archive.tar.gz"
    os.mkfifo(archive)
    process = subprocess.Popen(
        [sys.executable, "-c", ACCEPT, "--accept", str(archive)], cwd=SCRIPTS, stderr=subprocess.PIPE, text=True
    )
    with archive.open("wb"):  # waits for the reader
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "firsttoken: interrupted; give the same command again\n"
