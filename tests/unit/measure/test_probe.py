"""Another interpreter is asked what it has; one that cannot answer leaves its approaches unavailable."""

from __future__ import annotations

import platform
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest

from fakes.waiting import is_gone, wait_for
from firsttoken.measure import probe as probe_module
from firsttoken.measure.probe import probe
from firsttoken.process import package_environment


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
    wait_for(lambda: is_gone(int(child.read_text())))


def test_an_interpreter_that_hangs_ends_with_the_process_that_asks_it(tmp_path: Path) -> None:
    python, pid = tmp_path / "python", tmp_path / "pid"
    python.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 600\n")
    python.chmod(0o755)
    ask = f"from firsttoken.measure.probe import probe; probe({str(python)!r}, 'cpu', 'float32', ('null',))"
    with subprocess.Popen([sys.executable, "-c", ask], env=package_environment()) as asking:
        wait_for(lambda: pid.exists() and pid.read_text().endswith("\n"))
        asking.terminate()
    wait_for(lambda: is_gone(int(pid.read_text())))
