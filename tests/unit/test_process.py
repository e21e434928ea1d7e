"""Every process that we start ends with us, and nothing of it stays: no process, no socket, no folder."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from fakes.waiting import is_gone, wait_for
from firsttoken import process as process_module
from firsttoken.engine.base import EngineSpec
from firsttoken.plan import Plan
from firsttoken.server.client import GeneratorClient, GeneratorDied
from firsttoken.transient import Transient

PLAN = Plan(prompt_lengths=(4,), new_tokens=4, max_context=64, dtype="float32", device="cpu")
COMMAND = (sys.executable, "-P", str(Path(__file__).parent / "server" / "scripted_generator.py"))
SCRIPTS = Path(__file__).parents[2] / "scripts"

OWNER = """
import os, sys, time
from pathlib import Path
from firsttoken.plan import Plan
from firsttoken.server.client import GeneratorClient
from firsttoken.engine.base import EngineSpec
plan = Plan(prompt_lengths=(4,), new_tokens=4, max_context=64, dtype="float32", device="cpu")
spec = EngineSpec(model_dir=sys.argv[2], plan=plan, forward="graph", dynamic_operations="native")
client = GeneratorClient.launch(spec, (sys.executable, "-P", sys.argv[1]))
if sys.argv[2] != "endless":
    client.wait_until_ready()
print(client.pid, client.address.parent, flush=True)
"""


def spec(behaviour: str) -> EngineSpec:
    return EngineSpec(model_dir=behaviour, plan=PLAN, forward="graph", dynamic_operations="native")


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def start_owner(behaviour: str, then: str) -> tuple[subprocess.Popen[str], int, Path]:
    """A process that launches a generator, prints its pid and folder, and goes on with `then`."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER + then, COMMAND[-1], behaviour],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )
    assert owner.stdout is not None
    line = owner.stdout.readline()
    if not line:
        assert owner.stderr is not None
        pytest.fail(owner.stderr.read())
    pid, folder = line.split(maxsplit=1)
    assert not is_gone(int(pid))
    return owner, int(pid), Path(folder.strip())


def finish(owner: subprocess.Popen[str], generator: int) -> None:
    """End both, also when a test failed."""
    owner.kill()
    owner.wait()
    for pipe in (owner.stdout, owner.stderr):
        assert pipe is not None
        pipe.close()
    if not is_gone(generator):
        os.kill(generator, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_generator_and_folder_go_when_the_owner_is_killed(number: signal.Signals) -> None:
    owner, pid, folder = start_owner("paced", "client.generate([1], 10**6, lambda token: None)")
    try:
        assert folder.stat().st_mode & 0o777 == 0o700
        owner.send_signal(number)
        wait_for(lambda: is_gone(pid))
        wait_for(lambda: not folder.exists())
    finally:
        finish(owner, pid)


def test_a_forked_child_of_the_owner_that_holds_the_pipe_does_not_keep_the_generator() -> None:
    """Seen to fail without PR_SET_PDEATHSIG: the pipe alone does not end here."""
    fork = "child = os.fork()\nif child == 0:\n    time.sleep(1000)\nprint(child, flush=True)\ntime.sleep(1000)"
    owner, pid, folder = start_owner("paced", fork)
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    try:
        owner.kill()
        wait_for(lambda: is_gone(pid))
        wait_for(lambda: not folder.exists())
        assert not is_gone(child)
    finally:
        os.kill(child, signal.SIGKILL)
        finish(owner, pid)


def test_a_load_that_nobody_can_interrupt_ends_with_its_children_too() -> None:
    owner, pid, folder = start_owner("endless", "time.sleep(1000)")
    try:
        wait_for(lambda: bool(psutil.Process(pid).children()))
        worker = psutil.Process(pid).children()[0].pid
        owner.kill()
        wait_for(lambda: is_gone(pid) and is_gone(worker))
        wait_for(lambda: not folder.exists())
    finally:
        finish(owner, pid)


def test_an_engine_that_does_not_close_is_ended_by_the_alarm() -> None:
    """Seen to fail without the alarm."""
    owner, pid, folder = start_owner("stubborn", "time.sleep(1000)")
    try:
        owner.kill()
        wait_for(lambda: is_gone(pid))
        assert not folder.exists()
    finally:
        finish(owner, pid)


def test_an_engine_that_does_not_close_is_killed_by_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    client = GeneratorClient.launch(spec("stubborn"), COMMAND)
    client.wait_until_ready()
    monkeypatch.setattr(process_module, "STOP_GRACE_S", 0.2)  # before its own alarm, which rings after a second
    pid, folder = client.pid, client.address.parent
    client.close()
    assert pid is not None and not psutil.pid_exists(pid)
    assert not folder.exists()


def test_closing_during_the_load_leaves_nothing() -> None:
    client = GeneratorClient.launch(spec("endless"), COMMAND)
    assert client.pid is not None
    process = psutil.Process(client.pid)
    wait_for(lambda: bool(process.children()))
    worker = process.children()[0].pid
    folder = client.address.parent
    client.close()
    assert not psutil.pid_exists(process.pid) and is_gone(worker) and not folder.exists()


def test_what_a_killed_generator_had_started_is_ended_when_the_client_notices() -> None:
    with GeneratorClient.launch(spec("endless"), COMMAND) as client:
        assert client.pid is not None
        process = psutil.Process(client.pid)
        wait_for(lambda: bool(process.children()))
        worker = process.children()[0].pid
        os.kill(client.pid, signal.SIGKILL)
        with pytest.raises(GeneratorDied, match="SIGKILL"):
            client.wait_until_ready()
        wait_for(lambda: is_gone(worker))


def test_closing_leaves_no_process_socket_folder_or_thread() -> None:
    before = threading.active_count()
    descriptors = open_descriptors()
    client = GeneratorClient.launch(spec("counting"), COMMAND)
    client.wait_until_ready()
    client.generate([1], 3, lambda token: None)
    pid, folder = client.pid, client.address.parent
    assert pid is not None and folder.exists()
    client.close()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    assert threading.active_count() == before
    assert open_descriptors() == descriptors


def test_a_killed_generator_leaves_no_folder_after_close() -> None:
    with GeneratorClient.launch(spec("paced"), COMMAND) as client:
        client.wait_until_ready()
        assert client.pid is not None
        os.kill(client.pid, signal.SIGKILL)
        with pytest.raises(GeneratorDied):
            client.generate([1], 1000, lambda token: None)
        folder = client.address.parent
    assert not folder.exists()


def test_the_generator_outlives_the_thread_that_started_it() -> None:
    """The parent-death signal also comes when only that thread ends. Seen to fail without the look at getppid."""
    box: list[GeneratorClient] = []

    def start() -> None:
        client = GeneratorClient.launch(spec("paced"), COMMAND)
        client.wait_until_ready()
        box.append(client)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with box[0] as client:
        client.generate([1], 50, lambda token: None)


def test_threads_have_the_names_that_the_kernel_shows() -> None:
    expected = {"ft-engine", "ft-clients", "ft-owner"}
    with GeneratorClient.launch(spec("counting"), COMMAND) as client:
        client.wait_until_ready()
        tasks = Path(f"/proc/{client.pid}/task")
        wait_for(lambda: {task.joinpath("comm").read_text().strip() for task in tasks.iterdir()} == expected)


def test_any_working_directory_and_long_paths_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / ("a long temporary folder " * 6)
    base.mkdir()
    (tmp_path / "msgspec.py").write_text("raise ImportError('the working directory is not to be imported from')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    null = EngineSpec(model_dir="", plan=PLAN, forward="null", dynamic_operations="none")
    with GeneratorClient.launch(null) as client:
        client.wait_until_ready()
        assert client.address.is_relative_to(base) and len(str(client.address)) > 108
        client.generate([1], 3, lambda token: None)
    assert list(base.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seen failing: an error that names no folder, and an empty folder left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    class FullDisk(socket.socket):
        def bind(self, _address: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(socket, "socket", FullDisk)
    with pytest.raises(Transient, match=rf"^no socket can be made in {tmp_path}/\S+: No space left on device; set "):
        GeneratorClient.launch(spec("counting"), COMMAND)
    assert list(tmp_path.iterdir()) == []


def test_a_thread_that_fails_ends_its_process_with_the_reason() -> None:
    """Seen failing: a traceback, and the process goes on without the thread."""
    code = (
        "import os, time\nfrom firsttoken.process import end_with, start_thread\nend_with(os.getppid())\n"
        "start_thread('ft-test', lambda: {}['missing'])\ntime.sleep(20)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGTERM
    assert ended.stderr.splitlines()[-1] == "thread ft-test failed: KeyError: 'missing'"


def test_a_command_that_does_not_exist_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        GeneratorClient.launch(spec("counting"), ("/nowhere/python",))
    assert list(tmp_path.iterdir()) == []
