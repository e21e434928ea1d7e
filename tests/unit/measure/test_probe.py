"""Another interpreter is asked what it has; one that cannot answer leaves its approaches unavailable."""

from __future__ import annotations

import platform
import sys
import time
import venv
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from firsttoken.measure import probe as probe_module
from firsttoken.measure.probe import probe


def test_this_interpreter_and_the_same_from_outside_agree() -> None:
    names = ("null", "cuda_graph")
    here, outside = probe("", "cpu", "float32", names), probe(sys.executable, "cpu", "float32", names)
    assert here == outside
    assert here.python == platform.python_version()
    assert here.packages["numpy"] == metadata.version("numpy")
    assert {name: found.status for name, found in here.approaches.items()} == {
        "null": "measured",
        "cuda_graph": "emulated",
    }


def test_versions_that_an_approach_names_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from firsttoken.approaches.null import Null

    assert "pytest" not in probe("", "cpu", "float32", ("null_2p",)).packages
    monkeypatch.setattr(Null, "packages", ("pytest",))
    assert probe("", "cpu", "float32", ("null",)).packages["pytest"] == pytest.__version__


@pytest.mark.parametrize("kind", ["bare", "absent"])
def test_an_interpreter_that_cannot_run_our_code_says_what_it_lacks(tmp_path: Path, kind: str) -> None:
    python = tmp_path / "bin" / "python"
    if kind == "bare":
        venv.create(tmp_path, with_pip=False)
    found = probe(str(python), "cpu", "float32", ("null", "null_2p"))
    assert found.packages == {}
    assert set(found.approaches) == {"null", "null_2p"}
    for availability in found.approaches.values():
        assert availability.status == "unavailable"
        assert str(python) in availability.reason and "make env-base" in availability.reason
        assert ("msgspec" if kind == "bare" else "No such file") in availability.reason
        assert "\n" not in availability.reason


def test_a_wrapper_that_hangs_ends_with_its_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, child = tmp_path / "python", tmp_path / "child"
    python.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {child}\nwait\n")
    python.chmod(0o755)
    monkeypatch.setattr(probe_module, "LIMIT_S", 1)
    found = probe(str(python), "cpu", "float32", ("null",)).approaches["null"]
    assert found.status == "unavailable" and "timed out after 1 seconds" in found.reason
    pid, until = int(child.read_text()), time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, "the wrapper's child still runs"
            time.sleep(0.01)
