"""The approaches with a generator process, as the harness sees them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fakes.sinks import OneByOne
from firsttoken.approaches.base import Approach, approach_class
from firsttoken.approaches.cuda_graph import CudaGraph
from firsttoken.approaches.jit_cuda import JitCuda
from firsttoken.approaches.null import Null
from firsttoken.approaches.null_2p import Null2p
from firsttoken.engine.base import EngineSpec
from firsttoken.engine.null import CONSTANT_TOKEN
from firsttoken.plan import Plan, Unsupported
from firsttoken.results import Facts, MemoryReport
from firsttoken.server import client as client_module
from firsttoken.server.client import GeneratorClient

PLAN = Plan(prompt_lengths=(4,), new_tokens=4, max_context=64, dtype="float32", device="cpu")
SCRIPTED = Path(__file__).parents[1] / "server" / "scripted_generator.py"


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[EngineSpec]:
    """Let the approaches launch the scripted generator; gives the specs that they asked for."""
    asked: list[EngineSpec] = []

    class Scripted(GeneratorClient):
        @classmethod
        def launch(cls, spec: EngineSpec) -> GeneratorClient:  # type: ignore[override]
            asked.append(spec)
            return GeneratorClient.launch(spec, (sys.executable, "-P", str(SCRIPTED)))

    monkeypatch.setattr(client_module, "GeneratorClient", Scripted)
    return asked


@pytest.mark.parametrize(("kind", "processes"), [(Null, 1), (Null2p, 2)])
def test_the_null_approaches_hand_over_constants_and_refuse_what_does_not_fit(
    kind: type[Approach], processes: int
) -> None:
    assert kind.processes == processes
    assert kind.control
    assert approach_class(kind.name) is kind
    assert kind.availability("cpu", "float32").status == "measured"
    with kind() as approach:
        approach.load(Path(), PLAN)
        sink = OneByOne()
        approach.generate(range(10), 6, sink)
        assert sink.tokens == [CONSTANT_TOKEN] * 6
        with pytest.raises(ValueError, match="60 prompt tokens and 5 new ones do not fit the KV cache of 64 positions"):
            approach.generate(range(60), 5, sink)
        assert approach.counters()["tokens"] == 6.0
        assert not approach.save_logits([1], [2], Path("unused"))
        approach.close()
    with pytest.raises((RuntimeError, ValueError), match=r"not loaded|closed"):
        approach.generate([1], 1, OneByOne())


@pytest.mark.parametrize(("kind", "dynamic"), [(CudaGraph, "native"), (JitCuda, "jit")])
def test_the_graph_approaches_ask_for_their_engine_and_pass_everything_on(
    kind: type[Approach], dynamic: str, specs: list[EngineSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (kind.processes, kind.graphs, kind.dynamic_operations) == (2, True, dynamic)
    assert kind.availability("cpu", "float32").status == "emulated"
    assert kind.availability("cuda", "float32").status == "measured"
    with kind() as approach:
        assert approach.load(Path("model"), PLAN).load_s == 2.0
        assert specs == [
            EngineSpec(
                model_dir=str(tmp_path / "model"),
                plan=PLAN,
                forward="graph",
                dynamic_operations=dynamic,  # type: ignore[arg-type]
                ahead=1,
            )
        ]
        sink = OneByOne()
        approach.generate((7, 8), 3, sink)
        assert sink.tokens == [7, 8, 9]
        timings = approach.timings()
        assert [row.launch_ns for row in timings] == [0, 1, 2]
        assert all(row.ipc_ns is not None and row.queue_ns is not None for row in timings)
        assert approach.save_logits([1], [2], Path("logits"))
        assert (tmp_path / "logits").exists()
        assert approach.memory() == MemoryReport(graph_bytes=7)
        assert set(approach.counters()) == {
            "switch_interval_s", "frozen", "collecting", "generator_cpu_s", "client_cpu_s",
        }  # fmt: skip
        assert approach.facts() == Facts(attention="sdpa", spin_us=0)


@pytest.mark.usefixtures("specs")
def test_a_model_that_the_engine_cannot_serve_is_unsupported() -> None:
    with CudaGraph() as approach, pytest.raises(Unsupported, match="no static cache for this model"):
        approach.load(Path("unsupported"), PLAN)


def test_a_second_client_attaches_to_the_same_generator() -> None:
    with Null2p() as owner:
        owner.load(Path(), PLAN)
        with Null2p.attach(owner.address) as guest:
            sink = OneByOne()
            guest.generate([1], 4, sink)
            assert sink.tokens == [CONSTANT_TOKEN] * 4
        owner.generate([1], 2, sink)  # the guest's end is not the generator's
        assert owner.counters()["tokens"] == 6.0
