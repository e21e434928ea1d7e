"""On the device: every form of our engines through the equality gate, and the gate against captured bugs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from fakes.engines import run_request
from fakes.equality_bench import EqualityBench
from fakes.equality_bugs import Planting, decode_v_shrunk, wrong_kv_head
from unit.tiny_models import FAMILIES, prompt_ids

MakeBench = Callable[[str], EqualityBench]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_steps_pass_the_gate(make_bench: MakeBench, family: str, dtype: str) -> None:
    bench = make_bench(family)
    with bench.engine(dtype, "graph") as engine:
        assert_equal(bench.judged(engine))


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("mistral_window", "float16"),
        ("gpt2", "bfloat16"),
        ("qwen3", "bfloat16"),
        ("wide", "float16"),
        ("wide_gqa", "float32"),
        ("decoder_qwen2", "float16"),
        ("decoder_phi3", "bfloat16"),
    ],
)
def test_compiled_and_captured_steps_pass_the_gate(make_bench: MakeBench, family: str, dtype: str) -> None:
    bench = make_bench(family)
    with bench.engine(dtype, "compiled", "captured") as engine:
        assert_equal(bench.judged(engine))


@pytest.mark.parametrize("forward", ["eager", "graph"])
@pytest.mark.parametrize("operations", ["native", "jit"])
def test_all_four_forms_pass_the_gate_in_float32(make_bench: MakeBench, forward: Any, operations: Any) -> None:
    bench = make_bench("mistral_window")
    with bench.engine("float32", forward, operations) as engine:
        assert_equal(bench.judged(engine))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("bug", [decode_v_shrunk, wrong_kv_head], ids=lambda bug: bug.__name__)
def test_a_bug_that_was_captured_is_noticed(make_bench: MakeBench, bug: Planting, dtype: str) -> None:
    """V x 0.9, or a tenth of each head taken from the next, in every replay of a decode graph."""
    bench = make_bench("wide_gqa")
    with bug(None, 0.1), bench.engine(dtype, "graph") as engine:
        assert bench.judged(engine)["verdict"] == "different"
    with bench.engine(dtype, "graph") as engine:
        assert_equal(bench.judged(engine))


def assert_equal(row: dict[str, Any]) -> None:
    assert row["verdict"] in ("equal", "equal within tolerance"), row["reason"]


def test_every_warm_request_replays_and_reports(make_engine: Callable[..., Any]) -> None:
    engine = make_engine()
    for _ in range(3):
        run_request(engine, prompt_ids(13), 7)
    counters = engine.counters()
    assert counters["decode_replays"] == counters["decode_steps"] == 3 * 6
    assert (counters["prefill_hits"], counters["prefill_misses"], counters["failed_captures"]) == (3, 0, 0)
    timings = engine.timings()
    assert len(timings) == 7
    assert all(row.device_ns > 0 and row.sampling_ns > 0 and row.launch_ns > 0 for row in timings)
    memory = engine.memory()
    assert memory.device_reserved_bytes >= memory.device_allocated_bytes > 0
    assert memory.graph_bytes is not None
