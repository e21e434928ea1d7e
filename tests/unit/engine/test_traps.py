"""What goes wrong with captured steps, each thing provoked, over a graph stand-in that replays a recorded tape.

Each test names the bug that it was seen to fail on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.engines import GRAPHS, MAX_CONTEXT, SAMPLED, make_spec, make_tape_engine, run_request, whole_sequence_logits
from fakes.sampled import FULL
from firsttoken.plan import GraphOptions
from unit.tiny_models import build_tiny_model, prompt_ids, save_tiny_model

torch = pytest.importorskip("torch")

from fakes.tape_graph import CaptureRefused, TapeBackend  # noqa: E402

MakeEngine = Callable[..., Any]


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_tiny_model(family, folder / family) for family in ("llama_gqa", "mistral_window")}


@pytest.fixture
def make_engine(model_dirs: dict[str, Path]) -> Iterator[MakeEngine]:
    engines: list[Any] = []

    def make(family: str = "llama_gqa", **plan: Any) -> Any:
        engines.append(make_tape_engine(make_spec(model_dirs[family], **plan)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def greedy(family: str, prompt: list[int], new_tokens: int) -> list[int]:
    """Greedy tokens of a plain forward without a cache."""
    model = build_tiny_model(family)
    tokens: list[int] = []
    for _ in range(new_tokens):
        tokens.append(int(whole_sequence_logits(model, [*prompt, *tokens], [0])[-1].argmax()))
    return tokens


@pytest.mark.parametrize("family", ["llama_gqa", "mistral_window"])
def test_a_padded_prompt_gives_the_tokens_of_the_prompt(make_engine: MakeEngine, family: str) -> None:
    """Trap 1. Seen to fail with the position of the first new token set to the padded length."""
    engine = make_engine(family, graphs=GraphOptions(kv_buckets=(16, 24), prefill_buckets=(16,)))
    for length in (3, 9, 16, 20):
        assert run_request(engine, prompt_ids(length), 10) == greedy(family, prompt_ids(length), 10)


def test_a_short_request_after_a_long_one_sees_nothing_of_it(make_engine: MakeEngine) -> None:
    """Trap 2. Seen to fail with masks that `begin` does not close again."""
    engine = make_engine()
    run_request(engine, prompt_ids(28, seed=3), 20)
    assert run_request(engine, prompt_ids(5), 20) == greedy("llama_gqa", prompt_ids(5), 20)


def test_the_cache_is_filled_to_its_last_position_and_not_beyond(make_engine: MakeEngine) -> None:
    """Trap 2. Seen to fail with `>=` in the place of `>` in the check, and without the check."""
    engine = make_engine()
    prompt = prompt_ids(MAX_CONTEXT - 20)
    assert run_request(engine, prompt, 20) == greedy("llama_gqa", prompt, 20)
    with pytest.raises(ValueError, match=f"29 prompt tokens and 20 new ones do not fit the KV cache of {MAX_CONTEXT}"):
        run_request(engine, prompt_ids(29), 20)
    with pytest.raises(ValueError, match="needs a prompt"):
        run_request(engine, [], 1)
    assert run_request(engine, prompt, 20) == greedy("llama_gqa", prompt, 20)


@pytest.mark.parametrize("operations", ["native", "published"])
@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_refused_and_the_next_request_is_right(
    make_engine: MakeEngine, tmp_path: Path, wrong: int, operations: str
) -> None:
    """A GPU would read past the table. Seen failing: an index error here, and -1 taken for the last id."""
    engine = make_engine(operations=operations)
    prompt = prompt_ids(8)
    for call in (
        lambda: run_request(engine, [*prompt, wrong], 4),
        lambda: engine.save_logits([wrong, *prompt], prompt, tmp_path / "logits"),
        lambda: engine.save_logits(prompt, [wrong, *prompt], tmp_path / "logits"),
    ):
        with pytest.raises(ValueError, match=f"^token id {wrong} is not in the model's vocabulary of "):
            call()
    assert run_request(engine, prompt, 4) == greedy("llama_gqa", prompt, 4)


@pytest.mark.parametrize("length", [14, 15, 16, 17])
def test_the_kv_bucket_changes_at_the_exact_boundary(make_engine: MakeEngine, length: int) -> None:
    """Trap 3. Seen to fail with `position <= bucket` in `bucket_for_position`: the step at 16 then reads only 0 to
    15."""
    engine = make_engine(prompt_lengths=(length,))
    small, middle, _ = engine.graphs.decode_steps
    before = small.replays, middle.replays
    assert run_request(engine, prompt_ids(length), 6) == greedy("llama_gqa", prompt_ids(length), 6)
    in_small = max(16 - length, 0)  # decode steps at positions length to 15
    assert (small.replays - before[0], middle.replays - before[1]) == (min(in_small, 5), 5 - min(in_small, 5))


def test_evicting_each_graph_leaves_the_others_right(make_engine: MakeEngine) -> None:
    """Trap 4 (its logic; the memory is in tests/gpu). Seen to fail with the most recently used as the one that
    leaves."""
    engine = make_engine(prompt_lengths=(4,), graphs=GraphOptions(kv_buckets=(16,), pool_capacity=3))
    wanted = {length: greedy("llama_gqa", prompt_ids(length), 4) for length in range(4, 10)}
    for newcomer in range(4, 10):
        run_request(engine, prompt_ids(newcomer), 4)
        assert engine.worker.drain(30)
        assert engine.graphs.pool.keys[-1] == newcomer and len(engine.graphs.pool.keys) <= 3
        for length in engine.graphs.pool.keys:
            assert run_request(engine, prompt_ids(length), 4) == wanted[length]
    counters = engine.counters()
    assert (counters["captures"], counters["evictions"], counters["prefill_misses"]) == (6, 3, 5)


def test_only_lengths_that_never_ran_get_a_warm_up(make_engine: MakeEngine) -> None:
    """A warm-up beside live decode takes the device from it. Seen to fail with a warm-up for every capture, and with
    lengths noted as run before they have run."""
    engine = make_engine(prompt_lengths=(4,))
    beforehand = engine.backend.warm_ups
    assert beforehand == len(engine.graphs.decode_steps) + 1
    assert run_request(engine, prompt_ids(9), 4) == greedy("llama_gqa", prompt_ids(9), 4)
    assert engine.worker.drain(30)
    assert engine.backend.warm_ups == beforehand
    assert run_request(engine, prompt_ids(9), 4) == greedy("llama_gqa", prompt_ids(9), 4)
    assert engine.counters()["prefill_misses"] == 1
    engine.graphs.acquire_prefill(11)  # asked for and not run
    assert engine.worker.drain(30)
    assert engine.backend.warm_ups == beforehand + 1


def test_any_order_of_replays_gives_the_same_tokens(make_engine: MakeEngine) -> None:
    """Trap 5. Seen to fail with the step's own logits handed on instead of copied to the fixed buffer."""
    engine = make_engine(prompt_lengths=(4, 7, 12))
    wanted = {length: greedy("llama_gqa", prompt_ids(length), 6) for length in (4, 7, 12)}
    order = random.Random(1).choices([4, 7, 12], k=15)
    assert [run_request(engine, prompt_ids(length), 6) for length in order] == [wanted[length] for length in order]


def test_a_capture_beside_live_decoding_changes_no_token(make_engine: MakeEngine) -> None:
    """Trap 6 (its logic). Seen to fail with warm-ups on the live buffers instead of the scratch ones."""
    engine = make_engine(prompt_lengths=(5,))
    engine.worker._patience_s = 0.0
    wanted = greedy("llama_gqa", prompt_ids(5), 20)
    tokens: list[int] = []

    def emit(token: int) -> None:
        if len(tokens) in (2, 8):
            engine.worker.later(lambda: engine.graphs.pool.fill(9 + len(tokens)))
            assert engine.worker.drain(30)
        tokens.append(token)

    engine.generate(prompt_ids(5), 20, emit)
    assert engine.counters()["captures"] == 3
    assert tokens == wanted


def test_sampled_replays_differ_and_a_seed_brings_them_back(make_engine: MakeEngine) -> None:
    """Trap 7. Seen to fail with `reseed` left empty."""
    engine = make_engine(sampling=SAMPLED)
    first, second = (run_request(engine, prompt_ids(5), 20) for _ in range(2))
    assert first != second
    engine.reseed(engine.plan.seed)
    assert run_request(engine, prompt_ids(5), 20) == first


@pytest.mark.parametrize("operations", ["native", "published"])
def test_a_penalty_remembers_its_own_request_alone(model_dirs: dict[str, Path], operations: Any) -> None:
    """With padded prompts, and a step queued ahead where the operations allow it. Seen to fail with a mask that
    `begin` does not clear, and with padding that counts as seen."""
    graphs = GraphOptions(kv_buckets=(16, 24), prefill_buckets=(16,))
    spec = make_spec(model_dirs["llama_gqa"], operations=operations, sampling=FULL, graphs=graphs)
    engine = make_tape_engine(spec)
    try:
        padding_unseen = []
        for length in (13, 5, 9):
            prompt = prompt_ids(length, seed=1)
            tokens = run_request(engine, prompt, 8)
            padding_unseen.append(0 not in {*prompt, *tokens})
            if operations == "native":
                assert torch.nonzero(engine.steps.state.seen[0]).flatten().tolist() == sorted({*prompt, *tokens})
            else:
                assert engine.steps.ops._ids.tolist() == [[*prompt, *tokens]]
        assert any(padding_unseen)
    finally:
        engine.close()


def test_captures_and_warm_ups_advance_nothing(make_engine: MakeEngine) -> None:
    """Trap 8. Seen to fail with warm-ups on the live buffers, and without the new seed after the warm-up."""
    engine = make_engine(sampling=FULL, prompt_lengths=(5,))
    longer_warm_up = make_engine(sampling=FULL, prompt_lengths=(5, 9, 12))
    assert run_request(engine, prompt_ids(5), 12) == run_request(longer_warm_up, prompt_ids(5), 12)
    watched = [
        *engine.steps.storage.keys,
        *engine.steps.storage.values,
        *engine.steps.state.rows,
        engine.steps.state.position,
        engine.steps.state.token,
        engine.steps.state.seen,
    ]
    watched.append(engine.steps.state.logits)
    before = [tensor.clone() for tensor in watched]
    generator_state = engine.steps.ops.generator.get_state()
    assert engine.worker.run(lambda: engine.graphs.pool.fill(11))
    assert all(torch.equal(now, then) for now, then in zip(watched, before, strict=True))
    assert torch.equal(engine.steps.ops.generator.get_state(), generator_state)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_so_many_steps_are_queued_before_a_token_is_read(model_dirs: dict[str, Path], ahead: int) -> None:
    """Seen to fail with the bound on queued steps one too large, and with `ahead` left out of it."""
    engine = make_tape_engine(make_spec(model_dirs["llama_gqa"], ahead=ahead))
    assert engine.facts().ahead == ahead
    steps: list[int] = []
    try:
        advance = engine.steps.advance

        def noted() -> None:
            steps.append(1)
            advance()

        engine.steps.advance = noted
        seen: list[int] = []
        engine.generate(prompt_ids(5), 6, lambda token: seen.append(len(steps) - 1))
        missed: list[int] = []
        steps.clear()
        engine.generate(prompt_ids(7), 6, lambda token: missed.append(len(steps) - 1))
    finally:
        engine.close()
    assert seen == [min(index + ahead, 5) for index in range(6)]
    assert missed == [0, *seen[1:]], "after a prefill that ran eagerly the first token waits for nothing"


def test_a_cancelled_request_stops_and_leaves_the_engine_ready(make_engine: MakeEngine) -> None:
    """Trap 9. Seen to fail without the check in the loop, and with a lease that a cancelled request keeps."""
    engine = make_engine()
    assert run_request(engine, prompt_ids(5), 20, stop_after=3) == greedy("llama_gqa", prompt_ids(5), 3)
    assert not engine.graphs.pool._leases
    assert run_request(engine, prompt_ids(13), 6) == greedy("llama_gqa", prompt_ids(13), 6)

    def refuse(token: int) -> None:
        raise ConnectionError("the client has gone")

    with pytest.raises(ConnectionError):
        engine.generate(prompt_ids(5), 20, refuse)
    assert not engine.graphs.pool._leases
    assert run_request(engine, prompt_ids(5), 3) == greedy("llama_gqa", prompt_ids(5), 3)


def test_nothing_that_lasts_is_an_inference_tensor(make_engine: MakeEngine) -> None:
    """Trap 10. Seen to fail with the KV buffers allocated under inference_mode."""
    engine = make_engine()
    run_request(engine, prompt_ids(5), 3)
    lasting = [t for holder in (engine.steps.state, engine.steps.storage) for t in _tensors_of(holder)]
    assert len(lasting) > 10
    assert not any(tensor.is_inference() for tensor in lasting)
    for tensor in lasting:
        tensor.zero_()  # outside inference_mode
    run_request(engine, prompt_ids(5), 3)


def _tensors_of(holder: Any) -> list[Any]:
    values = [item for value in vars(holder).values() for item in (value if isinstance(value, list) else [value])]
    return [value for value in values if isinstance(value, torch.Tensor)]


def test_after_a_failed_capture_requests_are_served_and_others_captured(make_engine: MakeEngine) -> None:
    """Trap 11. Seen to fail with a failure that is not noted, and with one that ends the capture thread."""
    engine = make_engine(prompt_lengths=(5,))
    engine.backend.fail_next = 1
    for _ in range(2):
        assert run_request(engine, prompt_ids(9), 4) == greedy("llama_gqa", prompt_ids(9), 4)
        assert engine.worker.drain(30)
    assert run_request(engine, prompt_ids(10), 4) == greedy("llama_gqa", prompt_ids(10), 4)
    assert engine.worker.drain(30)
    counters = engine.counters()
    assert (counters["failed_captures"], counters["captures"]) == (1, 2)
    assert "previous error during capture" in engine.graphs.pool.failures[9]
    assert run_request(engine, prompt_ids(10), 4) == greedy("llama_gqa", prompt_ids(10), 4)
    assert engine.counters()["prefill_hits"] == 1


def test_a_model_whose_decode_step_cannot_be_captured_is_refused(model_dirs: dict[str, Path]) -> None:
    """Trap 11. Seen to fail with the error let through as it is, which would be recorded as a failure of the run."""
    from firsttoken.plan import Unsupported

    backend = TapeBackend()
    backend.fail_next = 1
    with pytest.raises(Unsupported, match="its decode step cannot be captured"):
        make_tape_engine(make_spec(model_dirs["llama_gqa"]), backend)


def test_a_planned_prefill_that_cannot_be_captured_is_refused(model_dirs: dict[str, Path]) -> None:
    """Never silently eager. Seen to fail with the failure counted and the prefill run eagerly from then on."""
    from firsttoken.plan import Unsupported

    backend, spec = TapeBackend(), make_spec(model_dirs["llama_gqa"])
    make_step, made = backend.make_step, []

    def fail_the_fourth(live: Any, warm_up: Any) -> Any:
        made.append(live)
        backend.fail_next = int(len(made) == 4)  # behind the three KV buckets
        return make_step(live, warm_up)

    backend.make_step = fail_the_fourth  # type: ignore[method-assign]
    with pytest.raises(Unsupported, match="its prefill of 5 tokens cannot be captured: CaptureRefused"):
        make_tape_engine(spec, backend)


def test_a_capture_refuses_a_host_sync_and_replays_follow_addresses() -> None:
    """The stand-in itself: what CUDA would refuse or bake in. Seen to fail with an empty list of refused operators."""
    from fakes.tape_graph import TapeGraph

    cell, total = torch.ones(1), torch.zeros(1)
    with pytest.raises(CaptureRefused, match="aten::item"):
        TapeGraph(lambda: total.add_(cell.item()))
    with pytest.raises(CaptureRefused, match="lift_fresh"):
        TapeGraph(lambda: total.add_(torch.tensor([2.0])))
    graph = TapeGraph(lambda: total.add_(cell * 2))
    assert total.item() == 0
    cell.fill_(3)
    graph.replay()
    assert total.item() == 6
    cell.set_(torch.full((1,), 5.0))
    with pytest.raises(RuntimeError, match="moved since the capture"):
        graph.replay()


def test_every_warm_request_replays_a_decode_step_a_token(make_engine: MakeEngine) -> None:
    """Seen to fail with a count that includes the prefill, and with a miss that is counted as a hit."""
    engine = make_engine()
    assert all(engine.counters()[name] == 0 for name in ("decode_replays", "decode_steps", "prefills", "prefill_hits"))
    for _ in range(3):
        run_request(engine, prompt_ids(13), 7)
    counters = engine.counters()
    assert counters["decode_replays"] == counters["decode_steps"] == 3 * (7 - 1)
    assert (counters["prefills"], counters["prefill_hits"], counters["prefill_misses"]) == (3, 3, 0)
    timings = engine.timings()
    assert [row.pool_hit for row in timings] == [True] + [None] * 6
    assert all(row.device_ns > 0 and row.sampling_ns > 0 for row in timings)
    run_request(engine, prompt_ids(11), 1)
    assert [row.pool_hit for row in engine.timings()] == [False]


def test_memory_of_graphs_is_flat_over_many_evictions(make_engine: MakeEngine) -> None:
    """Trap 12 (its logic). Seen to fail with evicted graphs that are not closed."""
    engine = make_engine(prompt_lengths=(3,), graphs=GraphOptions(kv_buckets=GRAPHS.kv_buckets, pool_capacity=2))
    for round_ in range(3):
        for length in range(3, 12):
            run_request(engine, prompt_ids(length), 1)
            assert engine.worker.drain(30), round_
    open_graphs = [graph for graph in engine.backend.graphs if graph._tape is not None]
    assert len(open_graphs) == len(engine.graphs.decode_steps) + 2
    assert engine.counters()["evictions"] == engine.counters()["captures"] - 2
