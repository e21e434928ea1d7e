"""One measurement at a time on a device: across jobs, checkouts and users of this machine."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns

# Not TMPDIR, which differs between users and jobs, nor /run/lock, which some distributions keep for root.
FOLDER = Path("/tmp")
POLL_S = 0.2
MESSAGE_INTERVAL_S = 5.0
LOG = logging.getLogger(__name__)


@contextmanager
def device_lock(device_id: str, log: logging.Logger = LOG, folder: Path = FOLDER) -> Iterator[int]:
    """Hold the device (a GPU's uuid, or "cpu") while the block runs; yields the nanoseconds that it waited.

    An flock on a file for all users: the kernel releases it if this process dies. While another holds it, a line every
    five seconds names the holder. Raises RuntimeError where the file cannot be opened.
    """
    path = folder / f"firsttoken-{re.sub(r'[^A-Za-z0-9-]', '_', device_id)}.lock"
    begun_ns = perf_counter_ns()
    handle = _acquire(path, device_id, log)
    try:
        holder = f"{getpass.getuser()}, process {os.getpid()}, in {Path.cwd()}"
        os.ftruncate(handle, 0)
        os.pwrite(handle, holder.encode(), 0)
        yield perf_counter_ns() - begun_ns
    finally:
        # Unlocked by name, since a forked child that lives on would keep a lock that is only closed.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _acquire(path: Path, device_id: str, log: logging.Logger) -> int:
    told_s = -MESSAGE_INTERVAL_S
    while True:
        handle = _open_shared(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_named(handle, path):
                return handle
            locked = False  # somebody cleaned the folder between our open and our lock
        except BlockingIOError:
            locked = True
        except BaseException:
            os.close(handle)
            raise
        if locked and time.monotonic() - told_s >= MESSAGE_INTERVAL_S:
            told_s = time.monotonic()
            holder = os.pread(handle, 500, 0).decode(errors="replace") or "another process"
            log.info("waiting for %s, held by %s", device_id, holder)
        os.close(handle)
        if locked:
            time.sleep(POLL_S)


def _open_shared(path: Path) -> int:
    """Open the lock file, made readable and writable for all if it is new.

    First without O_CREAT: in a sticky folder the kernel refuses it for a file of another user (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(3):
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RuntimeError(f"{path}: cannot lock the device: {error.strerror}; remove the file") from error
        try:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # another was faster
        except OSError as error:
            raise RuntimeError(f"{path}: cannot make the device's lock: {error.strerror}") from error
        os.fchmod(handle, 0o666)  # whatever the umask is
        return handle
    raise RuntimeError(f"{path}: the device's lock appears and vanishes; see what removes it")


def _is_still_named(handle: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(handle))
