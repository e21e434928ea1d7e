"""A private folder goes with its process, however that ends; a live one's is never touched."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken import private_folder
from firsttoken.private_folder import KERNEL, PrivateFolder, dead_folders
from firsttoken.transient import Transient

SCRIPTS = Path(__file__).parents[2] / "scripts"
OWNER = """
import sys
from pathlib import Path
from firsttoken.private_folder import PrivateFolder
folder = PrivateFolder("test", Path(sys.argv[1]))
print(folder.name, flush=True)
sys.stdin.read()
"""


def start_owner(base: Path, *prefix: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a private folder in `base` until its stdin ends."""
    owner = subprocess.Popen(
        [*prefix, sys.executable, "-c", OWNER, str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )
    assert owner.stdout is not None
    return owner, Path(owner.stdout.readline().strip())


def wait_for_lock(folder: Path) -> None:
    """Until the kernel has ended the process that holds the folder."""
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)


def test_it_is_private_and_goes_at_the_end_of_the_block(tmp_path: Path) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with PrivateFolder("test", tmp_path) as name:
        assert Path(name).stat().st_mode & 0o777 == 0o700
        assert Path(name).parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.parametrize("namespaces", [(), ("unshare", "--pid", "--fork", "--kill-child")], ids=["same", "other pids"])
def test_a_killed_owners_folder_is_removed_by_the_next_and_a_live_ones_is_not(
    tmp_path: Path, namespaces: tuple[str, ...]
) -> None:
    if namespaces and subprocess.run([*namespaces, "true"], capture_output=True).returncode:
        pytest.skip("a pid namespace needs root")
    owner, folder = start_owner(tmp_path, *namespaces)
    with owner:
        (folder / "half").write_text("written")
        with PrivateFolder("other", tmp_path):
            assert (folder / "half").exists(), "a live process's folder was removed"
        owner.send_signal(signal.SIGKILL)
        owner.wait()  # before its stdin is closed, which would end it in order
    wait_for_lock(folder)
    (found,) = tmp_path.iterdir()
    assert found == folder
    with PrivateFolder("other", tmp_path) as mine:
        assert [str(path) for path in tmp_path.iterdir()] == [mine]


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_process_that_ends_or_is_interrupted_leaves_nothing(tmp_path: Path, interrupted: bool) -> None:
    """Also where it does not get to its `cleanup`."""
    owner, folder = start_owner(tmp_path)
    if interrupted:
        owner.send_signal(signal.SIGINT)
    owner.communicate("")
    assert (owner.returncode != 0) == interrupted and not folder.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    """Another kernel's folders, another program's, and links."""
    target = tmp_path / "somewhere"
    target.mkdir()
    (tmp_path / "firsttoken-test-00000000-abcdefgh").mkdir()
    (tmp_path / "firsttoken-cpu.lock").touch()
    (tmp_path / f"firsttoken-test-{KERNEL}-alink").symlink_to(target)
    before = sorted(tmp_path.iterdir())
    assert list(dead_folders(tmp_path)) == []
    assert sorted(tmp_path.iterdir()) == before


def test_another_users_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"firsttoken-test-{KERNEL}-abcdefgh").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert list(dead_folders(tmp_path)) == []


def test_a_folder_that_is_removed_before_its_owner_locks_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = private_folder._lock, 0

    def late(path: Path, without_locks: bool = False) -> int | None:
        nonlocal calls
        calls += 1
        if calls == 1:  # as another process, just then
            assert list(dead_folders(tmp_path)) == [path]
        return lock(path, without_locks)

    monkeypatch.setattr(private_folder, "_lock", late)
    with PrivateFolder("test", tmp_path) as name:
        assert Path(name).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_judges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with PrivateFolder("test", tmp_path) as mine:
        assert list(dead_folders(tmp_path)) == []
        assert Path(mine).exists()


def test_a_base_where_any_user_may_replace_it_is_refused(tmp_path: Path) -> None:
    """Seen failing: a socket in it."""
    tmp_path.chmod(0o777)
    with pytest.raises(Transient, match=rf"^{tmp_path}: any user may rename .* TMPDIR"):
        PrivateFolder("test", tmp_path)
    tmp_path.chmod(0o1777)
    with PrivateFolder("test", tmp_path) as folder:
        assert Path(folder).stat().st_mode & 0o777 == 0o700
