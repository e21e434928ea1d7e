"""The device's lock excludes other processes, names its holder, and goes with a holder that dies."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import firsttoken
from firsttoken import hardware as module
from firsttoken.hardware import device_lock

HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from firsttoken import hardware
    hardware.LOCK_FOLDER = Path(sys.argv[1])
    with hardware.device_lock("GPU-1"):
        print("held", flush=True)
        sys.stdin.read()
    """
)


@pytest.fixture(autouse=True)
def locks_in_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_FOLDER", tmp_path)


def start_holder(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(firsttoken.__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.parametrize("end", ["orderly", "killed"])
def test_a_second_process_waits_and_names_the_holder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    holder = start_holder(tmp_path)
    monkeypatch.setattr(module, "POLL_S", 0.01)
    polls = []

    def end_holder_at_second_poll(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 2:
            holder.kill() if end == "killed" else holder.communicate("")
            holder.wait()

    monkeypatch.setattr(time, "sleep", end_holder_at_second_poll)
    with caplog.at_level(logging.INFO), device_lock("GPU-1"):
        pass
    assert len(polls) == 2, "it waited until the holder ended, and no longer"
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1 and f"process {holder.pid}, in {Path.cwd()}" in messages[0]


def test_other_devices_do_not_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))
    with device_lock("cpu"), device_lock("GPU-1"):
        pass
    with device_lock("cpu"):
        pass


def test_of_several_devices_the_first_free_one_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))
    with device_lock("GPU-1", "GPU-2") as first, device_lock("GPU-1", "GPU-2") as second:
        assert (first, second) == ("GPU-1", "GPU-2")
    with device_lock("GPU-1", "GPU-2") as first:
        assert first == "GPU-1"


def test_the_lock_is_everybodys_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        with device_lock("cpu"):
            (path,) = tmp_path.iterdir()
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            assert str(os.getpid()) in path.read_text()
        assert path.read_text() == "", "a free lock names nobody"
    finally:
        os.umask(previous)


def test_an_existing_file_is_opened_without_asking_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fs.protected_regular refuses O_CREAT on another user's file in a sticky folder."""
    with device_lock("cpu"):
        pass
    real_open = os.open
    flags: list[int] = []

    def counted(path: str, flag: int, *mode: int) -> int:
        flags.append(flag)
        return real_open(path, flag, *mode)

    monkeypatch.setattr(os, "open", counted)
    with device_lock("cpu"):
        pass
    assert flags and not any(flag & os.O_CREAT for flag in flags)


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "firsttoken-cpu.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match=r"firsttoken-cpu\.lock: cannot"), device_lock("cpu"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_removed_while_we_locked_it_is_not_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_flock = fcntl.flock
    removed: list[bool] = []

    def flock(handle: int, operation: int) -> None:
        if not removed:
            removed.append(True)
            (tmp_path / "firsttoken-cpu.lock").unlink()
        real_flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with device_lock("cpu"):
        assert (tmp_path / "firsttoken-cpu.lock").exists()


def test_a_lock_whose_holder_cannot_be_written_down_locks_all_the_same(tmp_path: Path) -> None:
    """A full disk; here a pipe in the place of the file. Seen failing: "Invalid argument", without a file's name."""
    path = tmp_path / "firsttoken-GPU-1.lock"
    os.mkfifo(path, 0o666)
    with device_lock("GPU-1") as held:
        other = os.open(path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert held == "GPU-1"
