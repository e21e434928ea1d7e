"""Another interpreter is asked what it has; one that cannot answer leaves its approaches unavailable."""

from __future__ import annotations

import platform
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest

from firsttoken.measure.probe import probe


def test_this_interpreter_and_the_same_from_outside_agree() -> None:
    names = ("null", "cuda_graph")
    here, outside = probe("", "cpu", names), probe(sys.executable, "cpu", names)
    assert here == outside
    assert here.python == platform.python_version()
    assert here.packages["numpy"] == metadata.version("numpy")
    assert {name: found.status for name, found in here.approaches.items()} == {
        "null": "measured",
        "cuda_graph": "emulated",
    }


def test_versions_that_an_approach_names_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from firsttoken.approaches.null import Null

    assert "pytest" not in probe("", "cpu", ("null_2p",)).packages
    monkeypatch.setattr(Null, "packages", ("pytest",))
    assert probe("", "cpu", ("null",)).packages["pytest"] == pytest.__version__


@pytest.mark.parametrize("kind", ["bare", "absent"])
def test_an_interpreter_that_cannot_run_our_code_says_what_it_lacks(tmp_path: Path, kind: str) -> None:
    python = tmp_path / "bin" / "python"
    if kind == "bare":
        venv.create(tmp_path, with_pip=False)
    found = probe(str(python), "cpu", ("null", "null_2p"))
    assert found.packages == {}
    assert set(found.approaches) == {"null", "null_2p"}
    for availability in found.approaches.values():
        assert availability.status == "unavailable"
        assert str(python) in availability.reason and "make env-base" in availability.reason
        assert ("msgspec" if kind == "bare" else "No such file") in availability.reason
        assert "\n" not in availability.reason
