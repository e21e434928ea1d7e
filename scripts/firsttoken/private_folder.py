"""Private folders that end with their process: what a killed process left, the next one removes.

The process that makes a folder holds an flock on it, which the kernel drops when the process ends, whatever ended it.
Every process of this kernel sees the flock, in any container. On some file systems another host does not see it, so a
folder's name has the kernel's boot id, and folders of another kernel are never judged.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from firsttoken.transient import Transient

KERNEL = Path("/proc/sys/kernel/random/boot_id").read_text().split("-")[0]


class PrivateFolder(tempfile.TemporaryDirectory[str]):
    """A new folder `firsttoken-{kind}-...` that only this user can open, in `base` or where temporary files go.

    Removed at the end of the block, by `cleanup`, or when the process ends. Raises Transient where another user could
    put a folder of theirs in its place.
    """

    def __init__(self, kind: str, base: Path | None = None) -> None:
        base = (base or Path(tempfile.gettempdir())).absolute()
        if base.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise Transient(f"{base}: any user may rename what is in it: chmod +t, or set TMPDIR to one of yours")
        for _ in dead_folders(base):
            pass
        handle = None
        while handle is None:  # None: taken for a dead one before it was locked
            super().__init__(prefix=f"firsttoken-{kind}-{KERNEL}-", dir=base, ignore_cleanup_errors=True)
            self.path = Path(self.name)
            handle = _lock(self.path, without_locks=True)
        self._handle = handle

    def cleanup(self) -> None:
        super().cleanup()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def dead_folders(base: Path) -> Iterator[Path]:
    """The folders in `base` whose process has ended, of this user and this kernel. Each is removed when the caller
    goes on to the next."""
    for path in sorted(base.glob(f"firsttoken-*-{KERNEL}-*")):
        handle = _lock(path)
        if handle is None:
            continue
        try:
            if os.fstat(handle).st_uid == os.getuid():
                yield path
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(handle)


def is_dead(folder: Path) -> bool:
    """Whether the process that made a private folder has ended. False for another kernel's: that is not known."""
    if KERNEL not in folder.name:
        return False
    handle = _lock(folder)
    if handle is None:
        return not folder.exists()
    os.close(handle)
    return True


def _lock(path: Path, without_locks: bool = False) -> int | None:
    """A descriptor that holds the flock of a folder; None where another process holds it or the folder is gone.

    `without_locks`: also where the file system has no locks. Nobody can lock the folder then, so nobody removes it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = path.exists()
    except BlockingIOError:
        locked = False
    except OSError:
        locked = without_locks
    if not locked:
        os.close(handle)
        return None
    return handle
