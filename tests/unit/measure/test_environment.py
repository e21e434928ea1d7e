"""What is recorded of the machine and the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from firsttoken.measure.environment import git_state

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]


@pytest.mark.parametrize("refused", [False, True], ids=["a clone of ours", "a clone of another user's"])
def test_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    """Seen failing: empty where there is no checkout, and where git refuses to read another user's."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == ("unknown", False)
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run([*GIT, *command], cwd=tmp_path, check=True)
    head = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    if refused:
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert git_state(tmp_path) == ("unknown" if refused else head.strip(), False)
