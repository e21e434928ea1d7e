"""Client processes: they start together, and none outlives whoever started it."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from firsttoken.measure.client_processes import ClientProcesses, ClientsEnded, ClientTask
from firsttoken.plan import Plan
from firsttoken.process import package_environment

PLAN = Plan(prompt_lengths=(3,), new_tokens=2, max_context=5, dtype="float32", device="cpu")
TASK = ClientTask(approach="null", plan=PLAN, prompt_ids=(1, 2, 3), warm_up=1)

OWNER = """
import sys, time
from unit.measure.test_client_processes import TASK
from firsttoken.measure.client_processes import ClientProcesses
with ClientProcesses([TASK] * 2) as clients:
    print("ready", flush=True)
    time.sleep(1000)
"""


def test_clients_run_at_the_same_time_as_often_as_they_are_asked() -> None:
    with ClientProcesses([TASK] * 2) as clients:
        for count in (1, 2, 2):
            replies = clients.run(count, 5000)
            assert [(len(reply.first_token), len(reply.token_gap)) for reply in replies] == [(5000, 5000)] * count
            assert max(reply.started_ns for reply in replies) < min(reply.ended_ns for reply in replies)
        with pytest.raises(ClientsEnded, match="2 of 3 clients run"):
            clients.run(3, 1)
    assert psutil.Process().children() == []


def test_a_killed_client_is_one_line_and_the_others_go_on() -> None:
    with ClientProcesses([TASK] * 3) as clients:
        second = sorted(psutil.Process().children(), key=lambda child: child.pid)[1]
        second.kill()
        with pytest.raises(ClientsEnded, match=r"^1 of 3 clients failed: a client process ended with exit code -9$"):
            clients.run(3, 1)
        assert len(clients.run(2, 4)) == 2
    assert psutil.Process().children() == []


def test_no_client_outlives_its_owner() -> None:
    environment = package_environment() | {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", OWNER], env=environment, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        clients = psutil.Process(owner.pid).children()
        assert len(clients) == 2
        owner.kill()
    assert psutil.wait_procs(clients, timeout=20)[1] == []
