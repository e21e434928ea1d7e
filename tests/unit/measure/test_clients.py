"""Clients that share a generator's queue, or have copies: cells, rounds, and copies that do not run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pandas as pd
import psutil
import pytest

from firsttoken.experiment_tables import read_experiment, write_experiment
from firsttoken.measure import clients
from firsttoken.measure.clients import GIB, ClientsRow, measure_clients
from firsttoken.plan import Plan
from unit.tiny_models import prompt_ids, save_tiny_model

PLAN = Plan(prompt_lengths=(100, 10), new_tokens=9, max_context=109, dtype="float32", device="cpu")


@pytest.fixture
def null(monkeypatch: pytest.MonkeyPatch) -> None:
    """Approaches that compute nothing, in two rounds, on four cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    for name, value in (("SHARED", "null_2p"), ("COPY", "null"), ("ROUNDS", 2)):
        monkeypatch.setattr(clients, name, value)


def measure(
    say: Callable[[str], None] = print, free_bytes: Callable[[], int | None] = lambda: None
) -> list[ClientsRow]:
    rows = measure_clients(Path("no model"), PLAN, range(10), say, free_bytes)
    assert psutil.Process().children() == []
    return rows


def frame(rows: list[ClientsRow], path: Path) -> pd.DataFrame:
    """As the rule writes it and analysis reads it."""
    write_experiment(pd.DataFrame([msgspec.to_builtins(row) for row in rows]), "clients", path)
    return read_experiment(path, "clients")


@pytest.mark.usefixtures("null")
def test_each_cell_is_measured_once_a_round(tmp_path: Path) -> None:
    rows = measure()
    assert [(row.round, row.clients, row.arrangement) for row in rows] == list(
        itertools.product((1, 2), (1, 2, 4), ("shared_queue", "copies"))
    )
    assert {(row.arrangement, row.approach) for row in rows} == {("shared_queue", "null_2p"), ("copies", "null")}
    assert all(row.requests == 24 and row.reason == "" for row in rows)
    found = frame(rows, tmp_path / "clients.csv")
    assert (found["duration_s"] * 1e3 > found["ttft_mean_ms"]).all() and (found["ttft_median_ms"] > 0).all()


@pytest.mark.usefixtures("null")
def test_copies_that_do_not_fit_are_not_started(tmp_path: Path) -> None:
    free = iter([60 * GIB, 30 * GIB])
    found = frame(measure(free_bytes=lambda: next(free)), tmp_path / "clients.csv")
    copies = found[found["arrangement"] == "copies"]
    assert list(copies["requests"]) == [24, 0, 0] * 2
    assert copies[copies["requests"] == 0][["duration_s", "ttft_mean_ms", "ttft_median_ms"]].isna().all(axis=None)
    told = "1 copies fit beside the generator: each takes 30.0 GiB of device memory, 30.0 GiB are free"
    assert list(copies["reason"]) == ["", told, told] * 2
    assert (found[found["arrangement"] == "shared_queue"]["requests"] == 24).all()


@pytest.mark.usefixtures("null")
def test_copies_do_not_share_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    reasons = {row.clients: row.reason for row in measure() if row.arrangement == "copies"}
    assert reasons == {1: "", 2: "", 4: "2 copies fit on the CPU: 2 cores, each takes 1"}


@pytest.mark.usefixtures("null")
def test_copies_that_cannot_be_loaded_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "COPY", "tensorrt_llm")
    reasons = {row.clients: row.reason for row in measure() if row.arrangement == "copies"}
    assert reasons[4] == "0 of 4 clients run: Unsupported: TensorRT-LLM needs an NVIDIA GPU"


@pytest.mark.usefixtures("null")
def test_a_copy_that_is_killed_ends_its_own_cell_only() -> None:
    def kill_a_copy(line: str) -> None:
        if line == "clients: round 1/2":
            max(psutil.Process().children(), key=lambda child: child.pid).kill()  # the last of four copies

    rows = measure(kill_a_copy)
    told = {(row.arrangement, row.round, row.clients): row.reason for row in rows if row.reason}
    assert told == {("copies", 2, 4): "1 of 4 clients failed: a client process ended with exit code -9"}


@pytest.mark.usefixtures("null")
def test_a_generator_that_dies_is_a_reason() -> None:
    def kill_the_generator(line: str) -> None:
        if line == "clients: round 1/2":
            (generator,) = [c for c in psutil.Process().children() if "firsttoken.server.server" in c.cmdline()]
            generator.kill()

    rows = measure(kill_the_generator)
    for row in rows:
        gone = row.round == 2 and row.arrangement == "shared_queue"
        assert ("GeneratorDied: the generator ended" in row.reason) is gone


def test_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(clients, "CLIENTS", (1, 2))
    monkeypatch.setattr(clients, "ROUNDS", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1))
    folder = save_tiny_model("llama_gqa", tmp_path / "model")
    plan = msgspec.structs.replace(PLAN, jit_backend="torchscript")
    rows = measure_clients(folder, plan, prompt_ids(10), print, lambda: None)
    alone, copy, shared, no_copies = rows
    assert (alone.reason, copy.reason, shared.reason) == ("", "", "")
    assert [row.requests for row in rows] == [24, 24, 24, 0], no_copies.reason
    assert {row.approach for row in rows} == {"jit_cuda", "jit_cuda_1p_ahead"}
    assert (shared.ttft_mean_ms or 0) > (alone.ttft_mean_ms or 0), "the wait for the other client's request counts"
