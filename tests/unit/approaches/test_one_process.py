"""The one-process engine approaches behind the approach contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.engines import make_spec
from fakes.sinks import OneByOne
from firsttoken.approaches.base import approach_class
from firsttoken.plan import Unsupported
from firsttoken.results import Facts
from unit.tiny_models import prompt_ids, save_tiny_model

pytest.importorskip("torch")

NAMES = ["eager_loop", "jit_only", "cuda_graph_1p", "jit_cuda_1p"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("llama_gqa", tmp_path_factory.mktemp("model"))


def test_the_four_are_a_clean_two_by_two() -> None:
    """Graphs and JIT are switched independently; nothing else differs."""
    classes = [approach_class(name) for name in NAMES]
    assert [(c.graphs, c.dynamic_operations) for c in classes] == [
        (False, "native"),
        (False, "jit"),
        (True, "native"),
        (True, "jit"),
    ]
    assert [c.processes for c in classes] == [1] * 4
    assert [vars(c).get("ahead", 0) for c in classes] == [0] * 4, "each token is read at once in all four"
    assert [c.control for c in classes] == [True, False, True, True]
    statuses = [c.availability("cpu", "float32").status for c in classes]
    assert statuses == ["measured", "measured", "emulated", "emulated"]


def test_all_four_give_the_same_tokens(model_dir: Path) -> None:
    plan = make_spec(model_dir, threads=1, prompt_lengths=(9,)).plan
    told: list[list[int]] = []
    for name in NAMES:
        with approach_class(name)() as approach:
            approach.load(model_dir, plan)
            sink = OneByOne()
            approach.generate(prompt_ids(9), 12, sink)
            counters = approach.counters()
            assert counters["decode_replays"] == (11 if approach.graphs else 0)
            assert counters["decode_steps"] == 11 and counters["recompiles"] == 0
            assert approach.facts() == Facts(attention="sdpa", ahead=0, grad_mode="inference_mode")
            told.append(sink.tokens)
    assert len(told[0]) == 12
    assert told == [told[0]] * 4


def test_the_published_operations_give_the_same_greedy_tokens(model_dir: Path) -> None:
    plan = make_spec(model_dir, threads=1, prompt_lengths=(9,)).plan
    told: list[list[int]] = []
    for name in ("cuda_graph_1p", "cuda_graph_published_ops"):
        kind = approach_class(name)
        with kind() as approach:
            approach.load(model_dir, plan)
            sink = OneByOne()
            approach.generate(prompt_ids(9), 12, sink)
            assert approach.facts() == Facts(attention="sdpa", ahead=0, grad_mode="inference_mode")
            assert all((row.sampling_ns or 0) > 0 for row in approach.timings())
            told.append(sink.tokens)
    assert (kind.processes, kind.graphs, kind.control) == (1, True, True)
    assert len(told[0]) == 12 and told[0] == told[1]


def test_what_cannot_be_served_is_unsupported_and_the_approach_can_be_closed(model_dir: Path) -> None:
    approach = approach_class("eager_loop")()
    with pytest.raises(Unsupported, match="max_position_embeddings is 128"):
        approach.load(model_dir, make_spec(model_dir, max_context=129).plan)
    with pytest.raises(RuntimeError, match="eager_loop is not loaded"):
        approach.counters()
    approach.close()
    approach.close()
