"""A command ends in one line, whatever becomes of its output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def said(main: str, stdout: int, **environment: str) -> tuple[int, str]:
    code = "import sys\nfrom firsttoken.command_line import end_with\ndef main():\n"
    code += f"    {main}\n    return 0\nend_with(main)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, stdout=stdout, stderr=subprocess.PIPE, text=True,
        env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_gone(lines: int) -> None:
    """Seen failing: a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    assert said(f"print('x\\n' * {lines})", writer) == (141, "")
    os.close(writer)


def test_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        assert said("print('x')", full.fileno()) == (1, "firsttoken: standard output: No space left on device\n")


def test_an_interrupt_and_a_character_that_the_terminal_lacks() -> None:
    assert said("raise KeyboardInterrupt", subprocess.DEVNULL) == (130, "")
    status, text = said("print('\\u00f6', file=sys.stderr)", subprocess.DEVNULL, PYTHONIOENCODING="ascii")
    assert (status, text) == (0, "\\xf6\n")
