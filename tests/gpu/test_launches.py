"""On the device: a next token is many launches without a graph, and with one a replay of as many kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from firsttoken.approaches.base import approach_class
from firsttoken.measure.launches import measure_launches
from firsttoken.plan import Plan
from unit.tiny_models import prompt_ids

pytest.importorskip("torch")


def test_one_replay_takes_the_place_of_the_launches_of_a_step(model_dirs: dict[str, Path]) -> None:
    plan = Plan(prompt_lengths=(5,), new_tokens=8, max_context=64, dtype="float16", device="cuda")
    kinds = [approach_class(name) for name in ("eager_loop", "cuda_graph_1p")]
    rows = measure_launches(kinds, model_dirs["llama_gqa"], plan, prompt_ids(5))
    count = {
        (kind.name, track): sum(row.approach == kind.name and row.track == track for row in rows)
        for kind in kinds
        for track in ("host", "device")
    }
    assert [row.name for row in rows if row.approach == "cuda_graph_1p"].count("cudaGraphLaunch") == 1
    assert count["eager_loop", "host"] > 2 * count["cuda_graph_1p", "host"]
    assert 0.9 < count["cuda_graph_1p", "device"] / count["eager_loop", "device"] < 1.1
