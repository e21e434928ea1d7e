"""Processes that we start end when we end, also after `kill -9`; and we end with the process that we work for.

A generator has two signs that its owner is gone: the pipe on its stdin ends, and the kernel sends the signal asked for
with PR_SET_PDEATHSIG (a forked child of the owner may still hold the pipe). A thread of its own waits for both, since
the engine thread may be deep inside a library. If all else fails, the kernel's alarm ends the process. A rule's script
watches the Snakemake above it, since its parent is a shell, which outlives a killed Snakemake.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from firsttoken.plan import Record
from firsttoken.private_folder import PrivateFolder
from firsttoken.transient import CRASHES

STOP_GRACE_S = 10  # from being told to end to being killed
JOB_GRACE_S = 20  # a rule's script: from SIGTERM to ending at once
LAST_LINES = 8  # of the generator's output that an error message quotes

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_OWNER_DIED = signal.SIGHUP  # also sent when only the owner's starting *thread* ended: see `_wait_for_end`


class Launch(Record, frozen=True, kw_only=True):
    """What the owner writes, as one line of JSON, to the generator's stdin; the pipe stays open as long as it lives."""

    spec: msgspec.Raw  # an EngineSpec, read by the generator
    folder: str  # private folder of the socket, removed at the end by whoever ends last
    listener: int  # inherited descriptor, already listening: the owner can connect at once
    owner: int  # process id
    spawned_ns: int  # CLOCK_MONOTONIC before the process was started


def package_environment() -> dict[str, str]:
    """The environment for a Python process of ours: this very package is found first, from any working directory."""
    package_root = str(Path(__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{package_root}{os.pathsep}{known}" if known else package_root}


def tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Write a line to the stdin of a process; one that has ended is not told, which the caller learns elsewhere."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(line + b"\n")
        process.stdin.flush()


# ---------------------------------------------------------------- the owner's side


class OwnedProcess:
    """A generator process that ends with this one. Close it on every way out; closing twice is fine."""

    def __init__(
        self, command: Sequence[str], spec: msgspec.Struct, folder: PrivateFolder, listener: socket.socket
    ) -> None:
        """Start `command` with a `Launch` on its stdin. `folder`, where `listener` listens at `socket`, is removed at
        the end, also where nothing could be started."""
        self.address = folder.path / "socket"
        self._folder = folder
        launch = Launch(
            spec=msgspec.Raw(msgspec.json.encode(spec)),
            folder=folder.name,
            listener=listener.fileno(),
            owner=os.getpid(),
            spawned_ns=time.perf_counter_ns(),
        )
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,  # what libraries print there goes to our stderr as well
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
                env=package_environment(),
                start_new_session=True,  # a terminal's Ctrl-C reaches only the owner, which then ends it in order
            )
        except BaseException:
            folder.cleanup()
            raise
        self.pid = self._process.pid
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._relay = start_thread("ft-stderr", lambda: _relay(self._process.stdout, self._last_lines))
        tell(self._process, msgspec.json.encode(launch))  # where it is dead, the connection says so, with the reason

    def exit_reason(self) -> str:
        """How it died and what it said last, on one line. To be called when its connection has ended."""
        if self._process.returncode is None and not _wait_until_exit(self.pid, STOP_GRACE_S):
            return f"generator process {self.pid} closed its connection but still runs"
        code = self._reap()
        end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last_lines = " | ".join(self._last_lines.copy()) or "(nothing)"
        return f"generator process {self.pid} {end}; its last output: {last_lines}"

    @property
    def crashed(self) -> bool:
        """Whether a fault of its own ended it; known after `exit_reason`."""
        return -(self._process.returncode or 0) in CRASHES

    def state(self) -> str:
        """The kernel's letter for the state of the process, e.g. T when it is stopped; see proc_pid_stat(5)."""
        return Path(f"/proc/{self.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]

    def kill(self) -> None:
        """End it and what it started, at once; `close` is still to be called."""
        if self._process.returncode is None:
            # It leads a group of its own, with compile workers; not yet reaped, so its number cannot be another's.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Tell it to end, wait, and leave no process, folder or thread; idempotent."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.returncode is None:
            _wait_until_exit(self.pid, STOP_GRACE_S)
        self._reap()
        self._folder.cleanup()

    def _reap(self) -> int:
        """Kill what still runs of it and what it had started; returns the exit code."""
        self.kill()
        code = self._process.wait()
        self._relay.join(1.0)
        return code


def _relay(stream: IO[bytes] | None, last_lines: deque[str]) -> None:
    """Pass the generator's output on to our stderr, wherever that points by now, and remember its end."""
    assert stream is not None
    with stream:
        for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            last_lines.append(line)
            print(line, file=sys.stderr, flush=True)


def _wait_until_exit(pid: int, timeout_s: float) -> bool:
    """Wait for our child's end without reaping it; False when it still runs after `timeout_s`."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- the generator's side


def end_with_owner(launch: Launch, stop: Callable[[], None], fail: Callable[[str], NoReturn]) -> None:
    """From now on call `stop` once the owner is gone or closes the pipe, or SIGTERM or SIGINT asks for the end; and
    `fail` with the reason when a thread of ours fails.

    To be called in the main thread. The process then has STOP_GRACE_S seconds left.
    """
    _when_a_thread_fails(fail)
    signals, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, _OWNER_DIED):
        signal.signal(number, lambda *_: None)  # the interpreter's own handler writes the number to the pipe
    signal_on_parent_death(_OWNER_DIED)

    def watch() -> None:
        received = _wait_for_end(launch.owner, signals)
        if received is not None:
            print(f"generator: ends, since it received {received.name}", file=sys.stderr, flush=True)
        signal.alarm(STOP_GRACE_S)  # SIGALRM has no handler here: it ends the process whatever its threads do
        shutil.rmtree(launch.folder, ignore_errors=True)
        stop()

    start_thread("ft-owner", watch)


def _wait_for_end(owner: int, signals: int) -> signal.Signals | None:
    """Returns the signal that asked for the end, or None when the owner is gone or closed the pipe."""
    stdin = sys.stdin.fileno()
    while True:
        ready = select.select([stdin, signals], [], [])[0]
        if stdin in ready and not os.read(stdin, 4096):
            return None
        for number in os.read(signals, 64) if signals in ready else b"":
            if number != _OWNER_DIED:
                return signal.Signals(number)
            if os.getppid() != owner:  # else only the thread that started us ended
                return None


def end_now() -> NoReturn:
    """End this process and, if it leads its process group, all processes that it started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


# ---------------------------------------------------------------- a rule's script, and Snakemake's own process


def signal_on_parent_death(number: int) -> None:
    """Let the kernel send this process `number` when its parent ends; also for `preexec_fn`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), *[ctypes.c_ulong(0)] * 3) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def end_with(ancestor: int) -> None:
    """Send ourselves SIGTERM when the process `ancestor` ends or a thread of ours fails, and end at once if that does
    not help.

    A thread waits for it in the kernel.
    """
    watched = os.pidfd_open(ancestor)

    def end() -> NoReturn:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(JOB_GRACE_S)
        os._exit(128 + signal.SIGTERM)

    def wait() -> None:
        select.select([watched], [], [])
        end()

    def fail(reason: str) -> NoReturn:
        try:
            print(reason, file=sys.stderr, flush=True)
        finally:
            end()

    _when_a_thread_fails(fail)
    start_thread("ft-parent", wait)


def snakemake_above() -> int | None:
    """The process id of the nearest ancestor that runs Snakemake; None where there is none (a notebook, a test)."""
    import psutil  # here, since a generator and its client do not need it

    for process in psutil.Process().parents():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any("snakemake" in word for word in process.cmdline()[:4]):
                return process.pid
    return None


# ---------------------------------------------------------------- threads


def start_thread(name: str, work: Callable[[], None]) -> threading.Thread:
    """A daemon thread whose name the kernel knows too (`ps -T`, `/proc/PID/task`): "ft-", at most 15 bytes."""

    def run() -> None:
        name_this_thread(name)
        work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _when_a_thread_fails(fail: Callable[[str], NoReturn]) -> None:
    """From now on a thread of ours that raises prints its traceback and calls `fail` with one line."""

    def hook(failure: threading.ExceptHookArgs) -> None:
        try:
            threading.__excepthook__(failure)
        finally:
            name = failure.thread.name if failure.thread else ""
            if name.startswith(("ft-", "capture_")):  # a library may do without its own
                fail(f"thread {name} failed: {failure.exc_type.__name__}: {failure.exc_value}")

    threading.excepthook = hook


def name_this_thread(name: str) -> None:
    """Give the calling thread a name, for Python and for the kernel."""
    threading.current_thread().name = name
    Path("/proc/thread-self/comm").write_text(name)
