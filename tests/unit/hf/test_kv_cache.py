"""Buckets, shapes, scratch buffers, and what the cache refuses."""

from __future__ import annotations

import pytest

from unit.tiny_models import build_tiny_model

torch = pytest.importorskip("torch")

from firsttoken.engine.buckets import bucket_for_position, kv_buckets  # noqa: E402
from firsttoken.hf.kv_cache import (  # noqa: E402
    PrefillView,
    aligned,
    allocate_storage,
)
from firsttoken.hf.masks import MaskPlan, use_ready_masks  # noqa: E402
from firsttoken.hf.steps import refuse_unsupported, refuse_varying_rope  # noqa: E402
from firsttoken.plan import Plan, Unsupported  # noqa: E402


def test_buckets_are_powers_of_two_up_to_all_of_it() -> None:
    assert kv_buckets(640) == (128, 256, 512, 640)
    assert kv_buckets(512) == (128, 256, 512)
    assert kv_buckets(64) == (64,)
    assert kv_buckets(640, wanted=(300, 100, 9000, 300)) == (100, 300, 640)
    assert [aligned(n) for n in (1, 64, 65, 600)] == [64, 64, 128, 640]


def test_a_position_goes_to_the_smallest_bucket_that_holds_it() -> None:
    assert [bucket_for_position(at, (128, 256)) for at in (0, 127, 128, 255)] == [128, 128, 256, 256]
    with pytest.raises(ValueError, match="position 256 does not fit the KV cache of 256 positions"):
        bucket_for_position(256, (128, 256))


def test_storage_has_the_models_own_shapes_and_scratch_costs_one_layer() -> None:
    model = build_tiny_model("qwen3")
    use_ready_masks(model)
    storage = allocate_storage(model, 64, None)
    assert [tuple(keys.shape) for keys in storage.keys] == [(1, 2, 64, 16)] * 2
    scratch = storage.scratch()
    assert len({t.data_ptr() for t in [*scratch.keys, *scratch.values]}) == 2, "all layers share one's buffers"
    assert not {t.data_ptr() for t in scratch.keys} & {t.data_ptr() for t in storage.keys}
    assert scratch.keys[0].data_ptr() != scratch.values[0].data_ptr()


def test_models_that_keep_other_state_are_refused() -> None:
    model = build_tiny_model("llama_gqa")
    use_ready_masks(model)
    view = PrefillView(allocate_storage(model, 64, None))
    with pytest.raises(Unsupported, match="more than keys and values"):
        view.update_conv_state(torch.zeros(1), 0)
    with pytest.raises(Unsupported, match="129 positions asked for, max_position_embeddings is 128"):
        refuse_unsupported(model, 129)
    type(model)._can_compile_fullgraph, before = False, type(model)._can_compile_fullgraph
    try:
        with pytest.raises(Unsupported, match="LlamaForCausalLM: transformers does not mark it"):
            refuse_unsupported(model, 64)
    finally:
        type(model)._can_compile_fullgraph = before


@pytest.mark.parametrize(
    ("kind", "original", "words"),
    [
        ("dynamic", 64, "rotary positions of type dynamic are computed on the host"),
        ("longrope", 20, "rotary positions of type longrope change at 20 positions, which some of the plan's texts"),
        ("longrope", 9, ""),
        ("longrope", 30, ""),
        ("yarn", 20, ""),
    ],
)
def test_rotary_positions_that_change_with_the_length_are_not_captured(kind: str, original: int, words: str) -> None:
    """Seen failing: they were, and a capture beside a request could change the request's angles."""
    model = build_tiny_model("llama_gqa")
    model.config.rope_parameters = {"rope_type": kind, "original_max_position_embeddings": original}
    plan = Plan(prompt_lengths=(10, 20), new_tokens=4, max_context=24, dtype="float32", device="cpu")
    if words:
        with pytest.raises(Unsupported, match=words):
            refuse_varying_rope(model, plan)
    else:
        refuse_varying_rope(model, plan)


def test_layers_without_keys_and_values_are_refused() -> None:
    model = build_tiny_model("llama_gqa")
    use_ready_masks(model)
    model.config.num_hidden_layers = 3  # as a hybrid model would look: a layer that never writes to the cache
    model.model.layers.append(torch.nn.Identity())
    model.model.layers[2].forward = lambda hidden, **_: hidden
    with pytest.raises(Unsupported, match="2 of 3 layers write keys and values"):
        allocate_storage(model, 64, None)


def test_masks_of_unknown_layer_types_are_refused() -> None:
    config = build_tiny_model("qwen3").config
    config.layer_types = ["full_attention", "chunked_attention"]
    with pytest.raises(Unsupported, match="attention of type chunked_attention"):
        MaskPlan(config, torch.float32, torch.device("cpu"), 64)


def test_the_mask_of_a_prompt_is_the_windows_own_and_none_where_causality_is_enough() -> None:
    """Seen to fail with `key >= query - window`, one position too many."""
    model = build_tiny_model("mistral_window")
    use_ready_masks(model)
    plan = MaskPlan(model.config, torch.float32, torch.device("cpu"), 64)
    assert plan.prefill(8) is None
    mask = plan.prefill(10)
    assert mask.shape == (1, 1, 10, 10)
    assert ((mask[0, 0] == 0).sum(-1)).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
