"""The steps of `compiled_graph`: same tokens as plain decoding in every family; compilations that layers share."""

from __future__ import annotations

from typing import Any

import pytest

from unit.tiny_models import FAMILIES, build_tiny_model, prompt_ids

torch = pytest.importorskip("torch")

CONTEXT = 32


def make_steps(model: Any, regions: str = "none", backend: str = "eager", sampling: Any = None, **options: Any) -> Any:
    from firsttoken.compiled.compiled_regions import CompileOptions
    from firsttoken.compiled.compiled_step import CompiledSteps, StepOptions

    from firsttoken.plan import Sampling

    how = CompileOptions(regions=regions, backend=backend)  # type: ignore[arg-type]
    return CompiledSteps(model, CONTEXT, sampling or Sampling(), 1, StepOptions(decode=how, prefill=how, **options))


def run(steps: Any, ids: list[int], new_tokens: int, padded: int | None = None) -> list[int]:
    """Tokens by steps alone; the KV bucket changes from 16 to all in the middle of a request."""
    with torch.inference_mode():
        steps.buffers.stage(ids, padded or len(ids))
        steps.prefill_step(padded or len(ids))()
        tokens = [int(steps.buffers.token)]
        for position in range(len(ids), len(ids) + new_tokens - 1):
            assert int(steps.buffers.position) == position
            steps.decode_step(16 if position < 16 else CONTEXT)()
            tokens.append(int(steps.buffers.token))
    return tokens


@pytest.mark.parametrize(("form", "fold"), [("plain", True), ("plain", False), ("sdpa", True)])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_tokens_of_every_family(family: str, form: str, fold: bool) -> None:
    from firsttoken.hf.eager_decode import greedy_decode

    steps = make_steps(build_tiny_model(family), decode_attention=form, fold=fold)
    model = build_tiny_model(family)
    for length in (20, 1, 12):  # the longest first: what it leaves in the cache must not be seen
        assert run(steps, prompt_ids(length), 10) == greedy_decode(model, prompt_ids(length), 10)[0]


def test_padding_behind_the_prompt_changes_nothing() -> None:
    steps = make_steps(build_tiny_model("llama_gqa"))
    assert run(steps, prompt_ids(11), 8, padded=16) == run(steps, prompt_ids(11), 8)


def test_a_model_that_attends_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that does not reach the attention function: logits are compared, so no wrong token comes out."""
    from firsttoken.compiled import compiled_attention
    from firsttoken.plan import Unsupported

    attend = compiled_attention.attend

    def deaf(*arguments: Any, sliding_window: int | None = None, **keywords: Any) -> Any:
        return attend(*arguments, **keywords)

    make_steps(build_tiny_model("mistral_window"))
    monkeypatch.setattr(compiled_attention, "attend", deaf)
    with pytest.raises(Unsupported, match="logits differ"):
        make_steps(build_tiny_model("mistral_window"))


def test_a_model_without_the_attention_interface_is_refused() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from firsttoken.plan import Unsupported

    config = AutoConfig.for_model("bloom", vocab_size=96, hidden_size=32, n_layer=2, n_head=4)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises((Unsupported, ValueError)):
        make_steps(model)


def test_sampled_tokens_differ_and_repeat_with_the_seed() -> None:
    from firsttoken.plan import Sampling

    steps = make_steps(build_tiny_model("llama_gqa"), sampling=Sampling(method="sample", temperature=1.5))
    first, second = run(steps, prompt_ids(5), 10), run(steps, prompt_ids(5), 10)
    assert first != second
    steps.buffers.reseed(1)
    again = run(steps, prompt_ids(5), 10)
    steps.buffers.reseed(1)
    assert run(steps, prompt_ids(5), 10) == again


@pytest.mark.slow
@pytest.mark.parametrize("regions", ["regional", "whole"])
def test_compiled_whole_and_in_regions_gives_the_same_tokens(regions: str) -> None:
    """Traced by Dynamo without a graph break; the backend runs what was traced."""
    from firsttoken.engine.compilation import compile_count

    torch._dynamo.reset()
    plain = run(make_steps(build_tiny_model("llama_gqa")), prompt_ids(12), 10)
    steps = make_steps(build_tiny_model("llama_gqa"), regions)
    assert run(steps, prompt_ids(12), 10) == plain
    compiled = compile_count()
    assert run(steps, prompt_ids(12), 10) == plain
    assert compile_count() == compiled > 0


@pytest.mark.slow
def test_layers_share_one_compilation() -> None:
    """More layers, no more compilations; seen to fail with a `forward` of its own on each layer's norms."""
    from transformers import AutoModelForCausalLM

    from firsttoken.engine.compilation import compile_count

    compilations = []
    for layers in (2, 5):
        torch._dynamo.reset()
        config = build_tiny_model("llama_gqa").config
        config.num_hidden_layers = layers
        steps = make_steps(AutoModelForCausalLM.from_config(config).eval(), "regional")
        before = compile_count()
        run(steps, prompt_ids(3), 3)
        compilations.append(compile_count() - before)
    assert compilations[0] == compilations[1]
