"""The sampler as a real process: it starts, follows its orders, and never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import firsttoken
from firsttoken.measure import telemetry as module
from firsttoken.measure.telemetry import Telemetry
from firsttoken.transient import Transient


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.02)


def wait_until_gone(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_samples_come_in_order_and_memory_only_outside_the_requests() -> None:
    with Telemetry("cpu") as telemetry:
        pid = telemetry._process.pid
        assert telemetry.start.source == "cpu" and telemetry.start.cores == len(os.sched_getaffinity(0))
        assert telemetry.starting_ns > 0
        telemetry.measuring()
        begun_ns = time.perf_counter_ns()
        time.sleep(2.5)  # more than twice the memory's interval
        readings = telemetry.stop()
    assert wait_until_gone(pid)
    first, *_, last = readings.samples
    times = [sample.t_ns for sample in readings.samples]
    assert times == sorted(times) and len(times) > 5
    assert first.t_ns < begun_ns < last.t_ns, "one clock in both processes"
    assert first.host_bytes and last.host_bytes
    # One look may be under way when it is told; unhindered there would be one a second.
    looks = [sample for sample in readings.samples[:-1] if sample.t_ns > begun_ns and sample.host_bytes is not None]
    assert len(looks) <= 1
    assert first.host_bytes > 10 << 20, "this process and not only the sampler"


@pytest.mark.parametrize("way_out", ["close", "exception"])
def test_no_sampler_is_left_behind(way_out: str) -> None:
    pid = 0
    try:
        with Telemetry("cpu") as telemetry:
            pid = telemetry._process.pid
            if way_out == "exception":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert wait_until_gone(pid)


def test_the_sampler_ends_with_a_parent_that_is_killed() -> None:
    script = (
        "import sys, time\nfrom firsttoken.measure.telemetry import Telemetry\n"
        "telemetry = Telemetry('cpu')\nprint(telemetry._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(firsttoken.__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone(pid)


def test_the_readings_of_a_sampler_that_died_end_early() -> None:
    with Telemetry("cpu") as telemetry:
        telemetry._process.kill()
        telemetry._process.wait()
        telemetry.measuring()
        readings = telemetry.stop()
    assert readings.samples
    assert readings.samples[-1].t_ns < time.perf_counter_ns()


def test_a_sampler_that_cannot_start_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        RuntimeError, match="the telemetry sampler ended at its start: exit status 1, no message"
    ) as raised:
        Telemetry("cpu")
    assert not isinstance(raised.value, Transient), "it would fail so again"


def test_a_sampler_that_is_killed_as_it_starts_may_start_the_next_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(Transient, match="the telemetry sampler ended at its start: exit status -9"):
        Telemetry("cpu")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA driver")
def test_without_a_driver_a_cuda_run_is_watched_from_the_cpu() -> None:
    with Telemetry("cuda") as telemetry:
        assert telemetry.start.source == "cpu"
        assert telemetry.stop().samples[0].gpu is None
