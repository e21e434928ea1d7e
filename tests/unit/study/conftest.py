"""A project folder with a finished study in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.study.demo import make_demo


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a finished study, demo, as working directory."""
    monkeypatch.chdir(tmp_path)
    make_demo()
    return tmp_path
