"""The engine of `compiled_graph` on a CPU: buckets, requests, misses, cancellation, bounds; uncompiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firsttoken.plan import GraphOptions, Plan, Sampling
from firsttoken.results import SetupTimes
from unit.tiny_models import build_tiny_model, prompt_ids

torch = pytest.importorskip("torch")

from fakes.tape_graph import TapeBackend  # noqa: E402

CONTEXT = 40


def make_plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "prompt_lengths": (4, 12),
        "new_tokens": 8,
        "max_context": CONTEXT,
        "dtype": "float32",
        "device": "cpu",
        "graphs": GraphOptions(kv_buckets=(16,)),
    }
    return Plan(**{**fields, **changes})


def make_engine(form: Any = None, **changes: Any) -> Any:
    from firsttoken.compiled.compiled_engine import CompiledEngine
    from firsttoken.compiled.compiled_regions import CompileOptions
    from firsttoken.compiled.compiled_step import StepOptions

    plain = CompileOptions(regions="none")
    options = StepOptions(decode=plain, prefill=plain)
    return CompiledEngine(build_tiny_model("llama_gqa"), make_plan(**changes), options, SetupTimes(), "none", form)


def request(engine: Any, length: int, new_tokens: int = 8, stop_after: int = 10**9) -> list[int]:
    tokens: list[int] = []
    engine.generate(prompt_ids(length), new_tokens, tokens.append, lambda: len(tokens) >= stop_after)
    return tokens


def expected(length: int, new_tokens: int = 8) -> list[int]:
    from firsttoken.hf.eager_decode import greedy_decode

    return greedy_decode(build_tiny_model("llama_gqa"), prompt_ids(length), new_tokens)[0]


def test_kv_buckets_are_powers_of_two_up_to_the_context() -> None:
    from firsttoken.engine.buckets import buckets_in_use, kv_buckets

    plan = make_plan(max_context=600, graphs=GraphOptions(), prompt_lengths=(10, 300), new_tokens=20)
    assert kv_buckets(600) == (128, 256, 512, 600)
    assert buckets_in_use(plan) == [128, 512, 600]  # no request of the plan reads 129 to 256 positions
    exact = make_plan(max_context=256, graphs=GraphOptions(), prompt_lengths=(128,), new_tokens=2)
    # The one decode step reads the prompt and the token before it: 129 positions.
    assert buckets_in_use(exact) == [256]


def test_prefill_lengths_follow_buckets_and_capacity() -> None:
    from firsttoken.engine.buckets import prefill_lengths

    assert prefill_lengths(make_plan()) == [4, 12]
    assert prefill_lengths(make_plan(graphs=GraphOptions(prefill_buckets=(16, 32)))) == [16]
    assert prefill_lengths(make_plan(graphs=GraphOptions(pool_capacity=1))) == [4]
    assert prefill_lengths(make_plan(graphs=GraphOptions(capture_beforehand=False))) == []


@pytest.mark.parametrize("buckets", [(), (16,)])
def test_planned_lengths_hit_and_others_run_eagerly(buckets: tuple[int, ...]) -> None:
    engine = make_engine(graphs=GraphOptions(kv_buckets=(16,), prefill_buckets=buckets))
    for length in (12, 4, 23, 1, 12):
        assert request(engine, length) == expected(length)
    counters = engine.counters()
    misses = 2 if not buckets else 1  # 23 always; 1 is padded to 16 where there is that bucket
    assert (counters["prefill_hits"], counters["prefill_misses"]) == (5 - misses, misses)
    assert counters["decode_replays"] == counters["decode_steps"] == 5 * 7
    assert counters["recompiles"] == 0
    assert len(engine.timings()) == 8
    assert all(row.device_ns > 0 and row.launch_ns > 0 for row in engine.timings())


def test_decode_crosses_the_kv_bucket_at_the_exact_position() -> None:
    """From 16 - k to 16 positions and beyond; seen to fail with `position <= bucket` in the look-up."""
    engine = make_engine()
    for length in (14, 15, 16, 17):
        assert request(engine, length) == expected(length)


def test_cancelled_request_leaves_nothing_behind() -> None:
    engine = make_engine()
    assert request(engine, 12, stop_after=3) == expected(12)[:3]
    assert len(engine.timings()) == 3
    assert request(engine, 4) == expected(4)


@pytest.mark.parametrize("buckets", [(), (16,)])
def test_captured_steps_queued_ahead_give_the_same_tokens(buckets: tuple[int, ...]) -> None:
    """Steps as recorded tapes, tokens that arrive late. Seen to fail with a decode step that reads the position from
    the host, and with more steps queued ahead than the ring has slots."""
    engine = make_engine(TapeBackend(), graphs=GraphOptions(kv_buckets=(16,), prefill_buckets=buckets))
    for length in (12, 4, 23, 1, 12):
        assert request(engine, length) == expected(length)
    assert request(engine, 4, new_tokens=1) == expected(4)[:1]
    assert request(engine, 4, new_tokens=30) == expected(4, 30)
    counters = engine.counters()
    assert counters["decode_replays"] == counters["decode_steps"] == 5 * 7 + 29


def test_a_first_token_never_waits_for_a_second_step() -> None:
    """Seen to fail with tokens read one step late from the first on."""
    form = TapeBackend()
    engine = make_engine(form)
    replays: list[int] = []

    def emit(token: int) -> None:
        replays.append(sum(graph.replays for graph in form.graphs))

    before = sum(graph.replays for graph in form.graphs)
    engine.generate(prompt_ids(12), 8, emit, lambda: False)
    assert replays[0] == before + 1 + 2, "the prefill, and what waits behind it on the device"


def test_what_runs_beyond_a_cancellation_is_never_seen() -> None:
    """Trap 9. Seen to fail without the look at `cancelled`, and with times of steps that were only queued."""
    engine = make_engine(TapeBackend())
    for stop_after in (1, 2, 5, 8):
        assert request(engine, 12, stop_after=stop_after) == expected(12)[:stop_after]
        assert len(engine.timings()) == stop_after
        assert request(engine, 4) == expected(4)


def test_too_long_a_request_is_an_exact_error() -> None:
    engine = make_engine()
    assert len(request(engine, CONTEXT - 8)) == 8
    with pytest.raises(ValueError, match="33 prompt tokens and 8 new ones do not fit the KV cache of 40 positions"):
        request(engine, CONTEXT - 7)
    with pytest.raises(ValueError, match="got 0 and 8"):
        request(engine, 0)


def test_warm_up_does_not_advance_the_random_stream() -> None:
    sampled = Sampling(method="sample", temperature=1.3)
    once = make_engine(sampling=sampled)
    other = make_engine(sampling=sampled, prompt_lengths=(4, 12, 20))  # warms more
    assert request(once, 12) == request(other, 12)
    assert request(once, 12) != request(once, 12)


def test_logits_through_the_engines_own_steps(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from firsttoken.hf.eager_decode import teacher_forced_logits

    engine = make_engine()
    assert engine.save_logits(prompt_ids(12), prompt_ids(6), tmp_path / "logits.safetensors")
    found = load_file(tmp_path / "logits.safetensors")["logits"]
    wanted = teacher_forced_logits(build_tiny_model("llama_gqa"), prompt_ids(12), prompt_ids(6))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_close_twice() -> None:
    engine = make_engine()
    engine.close()
    engine.close()
