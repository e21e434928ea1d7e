"""What make is asked for: a variable that the goal does not take is refused, those of its help line are taken."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELP = re.findall(r"^([a-z-]+):.*## (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def dry_make(*words: str) -> subprocess.CompletedProcess[str]:
    """What make would do; it does nothing. Not as part of the make that runs these tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", "-n", *words], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("goal", "text"), HELP, ids=[goal for goal, _ in HELP])
def test_a_goal_takes_the_variables_of_its_help_line_and_no_other(goal: str, text: str) -> None:
    """Seen failing: all was taken, and `make run STUDY=x` ran another study."""
    taken = [f"{name}=x y" for name in re.findall(r"[A-Z_]+(?==)", text)]
    assert "takes no" not in dry_make(goal, *taken).stderr
    refused = dry_make(goal, *taken, "CONFG=x")
    assert refused.returncode == 2
    assert f"firsttoken: make {goal} takes no CONFG; it takes PYTHON VENV" in refused.stderr


def test_a_wheelhouse_for_another_python_is_made_by_the_one_that_is_here() -> None:
    """Seen failing: in a fresh clone the environment was made by a program of the name 3.12."""
    done = dry_make("wheelhouse", "PYTHON=3.12", "VENV=/no/environment")
    assert done.returncode == 0, done.stderr
    assert "python3 -m venv /no/environment" in done.stdout and "wheelhouse.py --python '3.12'" in done.stdout


@pytest.mark.parametrize("given", ["LENGTHS=5", "DTYPE=bfloat16", "REVISION=abc", "APPROACHES=vllm", "MODEL="])
def test_what_belongs_to_a_model_needs_one(given: str) -> None:
    """Seen failing: it was ignored, and the default study ran."""
    refused = dry_make("check", given)
    assert refused.returncode == 2 and f"firsttoken: {given.partition('=')[0]} is of one's own model" in refused.stderr
