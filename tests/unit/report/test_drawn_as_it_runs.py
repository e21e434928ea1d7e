"""The drawings against running approaches: as many processes, and the threads under their own names."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fakes.sinks import OneByOne
from firsttoken.approaches.base import Approach, approach_class
from firsttoken.plan import Plan
from firsttoken.report import documents
from firsttoken.report.diagram import Diagram, Process, read_diagram
from unit.tiny_models import prompt_ids, save_tiny_model

TEMPLATES = Path(__file__).resolve().parents[3] / "report/approaches"
OWN_PREFIX = "ft-"  # of the names that the generator gives its threads

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="names of another process's threads are read from /proc"
)


def drawing(name: str) -> Diagram:
    return read_diagram(documents.read_template(TEMPLATES, name).meta["diagram"])


def drawn_threads(process: Process) -> set[str]:
    return {thread.name for thread in process.threads}


def live_threads(pid: int) -> set[str]:
    """Names of all threads of a process, as the kernel has them."""
    return {(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}


@contextmanager
def running(name: str, folder: Path) -> Iterator[Approach]:
    """The approach with a tiny model, after one request."""
    # TorchScript compiles in no time; which compiler it is changes no thread.
    plan = Plan(
        prompt_lengths=(6,), new_tokens=3, max_context=32, dtype="float32", device="cpu", jit_backend="torchscript"
    )
    with approach_class(name)() as approach:
        approach.load(save_tiny_model("llama_gqa", folder), plan)
        approach.generate(prompt_ids(6), 3, OneByOne())
        yield approach


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cuda_graph", "jit_cuda", "compiled_graph"])
def test_client_and_generator_run_with_the_threads_that_are_drawn(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "TORCHDYNAMO_DISABLE", "1"
    )  # inherited by the generator: compiling takes long and changes no thread
    client, generator = drawing(name).processes
    before = {child.pid for child in psutil.Process().children()}
    with running(name, tmp_path / "model"):
        children = [child for child in psutil.Process().children() if child.pid not in before]
        generators = [child for child in children if "ft-engine" in live_threads(child.pid)]
        assert len(generators) == 1, [child.cmdline() for child in children]
        live = {thread for thread in live_threads(generators[0].pid) if thread.startswith(OWN_PREFIX)}
        assert live == {thread for thread in drawn_threads(generator) if thread.startswith(OWN_PREFIX)}
    assert drawn_threads(client) == {threading.main_thread().name}
    assert approach_class(name).processes == len(drawing(name).processes)


@pytest.mark.parametrize("name", ["baseline", "jit_only"])
def test_one_process_approaches_are_drawn_as_one(name: str, tmp_path: Path) -> None:
    (process,) = drawing(name).processes
    before = {child.pid for child in psutil.Process().children()}
    with running(name, tmp_path / "model"):
        started = [child for child in psutil.Process().children() if child.pid not in before]
        assert [child for child in started if "ft-engine" in live_threads(child.pid)] == []
    assert drawn_threads(process) == {threading.main_thread().name}
    assert approach_class(name).processes == 1


@pytest.mark.parametrize(("twin", "name"), [("cuda_graph_1p", "cuda_graph"), ("jit_cuda_1p", "jit_cuda")])
def test_graphs_are_captured_on_the_thread_that_is_drawn(twin: str, name: str, tmp_path: Path) -> None:
    """The same engine in this process, where Python knows its threads by name."""
    before = set(threading.enumerate())  # threads, not names: another test's may still be ending
    with running(twin, tmp_path / "model"):
        started = {thread.name for thread in threading.enumerate() if thread not in before}
    own = drawn_threads(drawing(name).processes[1])
    assert {thread for thread in started if not thread.startswith(("Thread-", "tqdm_monitor"))} == {
        thread for thread in own if not thread.startswith(OWN_PREFIX)
    }


def test_tensorrt_llm_is_drawn_with_the_worker_that_it_starts() -> None:
    mine, worker = drawing("tensorrt_llm").processes
    assert drawn_threads(mine) == {threading.main_thread().name}
    assert "MPI" in worker.name


def test_llama_cpp_is_drawn_as_one_process() -> None:
    (process,) = drawing("llama_cpp").processes
    assert drawn_threads(process) == {threading.main_thread().name}
    assert approach_class("llama_cpp").processes == 1
