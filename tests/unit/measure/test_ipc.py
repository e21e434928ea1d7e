"""The IPC experiment: its cells, its arithmetic, and that a client which fails is an error of one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from firsttoken.approaches.null_2p import Null2p
from firsttoken.measure import ipc
from firsttoken.measure.client_processes import ClientReply, ClientsEnded
from firsttoken.plan import Plan
from firsttoken.results import Facts, SetupTimes

PLAN = Plan(prompt_lengths=(100, 10), new_tokens=4, max_context=104, dtype="float32", device="cpu")


def test_each_form_and_number_of_clients_is_measured_with_every_request_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("REQUESTS", 5), ("ROUNDS", 2), ("CLIENTS", (1, 2))):
        monkeypatch.setattr(ipc, name, value)
    rows = ipc.measure_ipc(PLAN)
    assert [(row.form, row.clients, row.metric, row.n) for row in rows] == [
        ("one_process", 1, "first_token", 10),
        ("one_process", 1, "token_gap", 70),
        ("two_processes", 1, "first_token", 10),
        ("two_processes", 1, "token_gap", 70),
        ("two_processes", 2, "first_token", 20),
        ("two_processes", 2, "token_gap", 140),
    ]
    assert all(0 < row.median_us <= row.p99_us for row in rows)
    by_cell = {(row.form, row.clients, row.metric): row.median_us for row in rows}
    assert by_cell["two_processes", 1, "first_token"] > by_cell["one_process", 1, "first_token"]
    assert psutil.Process().children() == []


def test_what_polling_saves_is_measured_where_the_study_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REQUESTS", 5), ("ROUNDS", 1), ("CLIENTS", (1,)), ("WARM_UP_REQUESTS", 1)):
        monkeypatch.setattr(ipc, name, value)
    asked: list[int] = []

    class Polling(Null2p):
        def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
            asked.append(plan.spin_us)
            return super().load(model_dir, plan)

        def facts(self) -> Facts:
            return Facts(spin_us=asked[-1])  # as where there are cores enough

    monkeypatch.setattr(ipc, "approach_class", lambda name: Polling)
    forms = [row.form for row in ipc.measure_ipc(msgspec.structs.replace(PLAN, spin_us=7))]
    assert list(dict.fromkeys(forms)) == ["one_process", "two_processes", "two_processes_spin"]
    assert asked == [0, 7]


def test_the_statistics_are_over_all_clients() -> None:
    samples = [
        ClientReply(first_token=(1000, 2000), token_gap=(10,)),
        ClientReply(first_token=(3000, 10_000), token_gap=(30,)),
    ]
    first, gap = ipc.summarise("two_processes", 2, samples)
    assert (first.n, first.mean_us, first.median_us) == (4, 4.0, 2.5)
    assert first.p99_us == pytest.approx(3 + 7 * 0.97)
    assert (gap.n, gap.mean_us, gap.median_us) == (2, 0.02, 0.02)


def test_a_client_that_fails_is_an_error_and_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ipc, "ONE_PROCESS", "tensorrt_llm")
    with pytest.raises(ClientsEnded, match=r"^0 of 1 clients run: Unsupported: TensorRT-LLM needs an NVIDIA GPU$"):
        ipc.measure_ipc(PLAN)
    assert psutil.Process().children() == []


def test_importing_the_experiment_brings_no_torch_and_no_approach() -> None:
    code = (
        "import sys, firsttoken.measure.ipc\n"
        "print([n for n in sys.modules if n == 'torch' or n.startswith('firsttoken.approaches.')])"
    )
    path = ipc.__file__.removesuffix("firsttoken/measure/ipc.py")
    ended = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, check=True)
    assert ended.stdout.decode().strip() == "['firsttoken.approaches.base']"
