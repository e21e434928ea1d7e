"""The steps of `compiled_graph` on a CPU: captured whole, with steps queued ahead; and what is checked at load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.engines import make_spec, run_request
from fakes.sampled import FULL
from firsttoken.plan import GraphOptions, Sampling
from unit.tiny_models import build_tiny_model, prompt_ids, save_tiny_model

torch = pytest.importorskip("torch")

from fakes.tape_graph import TapeBackend  # noqa: E402

MakeEngine = Callable[..., Any]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("llama_gqa", tmp_path_factory.mktemp("model"))


@pytest.fixture
def make_engine(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeEngine]:
    """Engines whose graphs are tapes; a tape cannot record compiled code, so dynamic operations are not compiled."""
    from firsttoken.compiled.steps import load_compiled_steps
    from firsttoken.engine.loop import LoopEngine
    from firsttoken.hf import jit_ops

    monkeypatch.setattr(jit_ops, "compile_fixed", lambda function, arguments: function)
    engines: list[Any] = []

    def make(sampling: Sampling = Sampling(), **graphs: Any) -> Any:  # noqa: B008
        spec = make_spec(
            model_dir, "compiled", "captured", ahead=2, prompt_lengths=(4, 12), new_tokens=8, max_context=40,
            graphs=GraphOptions(kv_buckets=(16,), **graphs), sampling=sampling,
        )  # fmt: skip
        engines.append(LoopEngine(spec, TapeBackend(), load_compiled_steps))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def expected(length: int, new_tokens: int = 8) -> list[int]:
    from firsttoken.hf.eager_decode import greedy_decode

    return greedy_decode(build_tiny_model("llama_gqa"), prompt_ids(length), new_tokens)[0]


@pytest.mark.parametrize("buckets", [(), (16,)])
def test_captured_steps_queued_ahead_give_the_same_tokens(make_engine: MakeEngine, buckets: tuple[int, ...]) -> None:
    """Seen to fail with a decode step that reads the position from the host, and with more steps queued ahead than the
    ring has slots."""
    engine = make_engine(prefill_buckets=buckets)
    for length in (12, 4, 23, 1, 12):
        assert run_request(engine, prompt_ids(length), 8) == expected(length)
    assert engine.worker.drain(30)
    assert run_request(engine, prompt_ids(23), 8) == expected(23), "captured after its miss"
    assert run_request(engine, prompt_ids(4), 1) == expected(4)[:1]
    assert run_request(engine, prompt_ids(4), 30) == expected(4, 30)
    counters = engine.counters()
    misses = 2 if not buckets else 1  # 23; 1 is padded to 16 where there is that bucket
    assert counters["prefill_misses"] == misses
    assert counters["decode_replays"] == counters["decode_steps"] == 6 * 7 + 29
    assert [row.pool_hit for row in engine.timings()][:2] == [True, None]
    assert engine.facts().ahead == 2
    assert engine.facts().kernels.startswith("Hugging Face's forward, not compiled: ")


def test_a_captured_penalty_remembers_its_own_request_alone(make_engine: MakeEngine) -> None:
    """Seen to fail with a mask that is not cleared in the captured prefill, and with padding that counts as seen."""
    engine = make_engine(sampling=FULL, prefill_buckets=(16,))
    padding_unseen = []
    for length in (12, 4, 9):
        prompt = prompt_ids(length, seed=1)
        tokens = run_request(engine, prompt, 8)
        padding_unseen.append(0 not in {*prompt, *tokens})
        assert torch.nonzero(engine.steps.state.seen[0]).flatten().tolist() == sorted({*prompt, *tokens})
    assert any(padding_unseen)


def test_what_runs_beyond_a_cancellation_is_never_seen(make_engine: MakeEngine) -> None:
    """Trap 9. Seen to fail without the look at `cancelled`, and with times of steps that were only queued."""
    engine = make_engine()
    for stop_after in (1, 2, 5, 8):
        assert run_request(engine, prompt_ids(12), 8, stop_after=stop_after) == expected(12)[:stop_after]
        assert len(engine.timings()) == stop_after
        assert run_request(engine, prompt_ids(4), 8) == expected(4)


def test_every_tile_that_prompts_meet_is_checked_at_its_fewest_and_its_most_rows() -> None:
    """Seen to fail with two lengths that a sliding window made one, and with the tile for 17 to 32 tokens left out."""
    from firsttoken.compiled.steps import CHECK_STEPS, check_lengths

    prompts = (12, 9, 10, 17, 32, 33, 64, 65, 200, 300, 500)
    assert check_lengths(prompts, 600, ()) == [9, 12, 17, 32, 33, 64, 65, 200, 500]
    lengths = check_lengths((10, 500), 520, (128, 256, 512, 576))
    assert {10, 500} <= set(lengths)
    for bucket in (128, 256, 512):  # its last decode step, and the first of the next bucket
        assert {bucket - CHECK_STEPS + 1, bucket} <= set(lengths)
    assert max(lengths) + CHECK_STEPS <= 520
    assert check_lengths((10,), 30, (64,)) == [10]
    assert max(check_lengths((64,), 66, (64,))) == 66 - CHECK_STEPS, "as far as the context goes"


@pytest.mark.slow
def test_torch_compile_over_the_same_steps_gives_the_same_tokens(model_dir: Path) -> None:
    """What a model that our decoder does not compute gets on a GPU; nothing compiles again while requests run."""
    from firsttoken.engine.backend import CpuBackend
    from firsttoken.engine.loop import LoopEngine
    from firsttoken.hf.load import load_model
    from firsttoken.hf.steps import CapturedHfSteps
    from firsttoken.results import Facts

    def load(spec: Any, device: Any) -> Any:
        return CapturedHfSteps(load_model(spec.model_dir, "float32", "cpu"), spec, device, Facts(), compiled=True)

    spec = make_spec(model_dir, "compiled", "captured", prompt_lengths=(4, 12), new_tokens=8, max_context=40)
    engine = LoopEngine(spec, CpuBackend(), load)
    for length in (12, 4, 9):
        assert run_request(engine, prompt_ids(length), 8) == expected(length)
    assert engine.counters()["recompiles"] == 0
    engine.close()
