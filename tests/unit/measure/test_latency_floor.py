"""The floors against figures worked out by hand, and that they are lower bounds: slower devices take longer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firsttoken.measure.latency_floor import Rates, floor, weights_fit_in_cache
from firsttoken.plan import LinearLayer, ModelManifest

# Llama-2-7B in float16: 32 layers, 32 heads of 128, hidden 4096, vocabulary 32000.
EMBEDDING = 32000 * 4096
PARAMETERS = 6_738_415_616
LLAMA = ModelManifest(
    name="llama2-7b",
    source="synthetic",
    origin="",
    revision="",
    architecture="LlamaForCausalLM",
    weights="random",
    parameters=PARAMETERS,
    weight_bytes=2 * PARAMETERS,
    read_bytes_per_token=2 * (PARAMETERS - EMBEDDING),
    kv_bytes_per_token=2 * 32 * 4096 * 2,
    flops_per_token=2 * (PARAMETERS - EMBEDDING),
    head_flops=2 * EMBEDDING,
    max_context=4096,
    vocab_size=32000,
    files=(),
)
H200 = Rates(read_bytes_per_s=4.3e12, flops_per_s=700e12, cache_bytes=0)


def test_decode_floor_is_what_is_read_over_the_bandwidth() -> None:
    found = floor(LLAMA, "float16", H200, prompt_length=254, new_tokens=4)
    # 13.215 GB of weights and 256 positions of 0.524 MB at 4.3 TB/s
    assert found.itl_ms == pytest.approx((13.215e9 + 256 * 0.524e6) / 4.3e12 * 1e3, rel=1e-3)
    assert found.itl_bound == "bandwidth"


def test_a_short_prompt_is_bound_by_reading_and_a_long_one_by_arithmetic() -> None:
    short = floor(LLAMA, "float16", H200, prompt_length=10, new_tokens=4)
    assert short.ttft_bound == "bandwidth"
    assert short.ttft_ms == pytest.approx(3.073, rel=1e-3)
    long = floor(LLAMA, "float16", H200, prompt_length=500, new_tokens=4)
    body, head = 2 * (PARAMETERS - 2 * EMBEDDING), 2 * EMBEDDING
    attention = 4 * 4096 * 32 * 500 * 501 / 2
    assert long.ttft_bound == "arithmetic"
    assert long.ttft_ms == pytest.approx((500 * body + head + attention) / 700e12 * 1e3, rel=1e-6)


def test_weights_of_8_bits_are_read_with_their_scales() -> None:
    layer = LinearLayer(inputs=4096, outputs=32000, count=1, head=True)  # the only matrix here; the rest stays as it is
    some = msgspec.structs.replace(LLAMA, linear_layers=(layer,))
    floors = [floor(some, "float16", H200, prompt_length=10, new_tokens=4, int8=int8) for int8 in (False, True)]
    saved_ms = (32000 * 4096 - 4 * 32000) / 4.3e12 * 1e3
    assert floors[0].itl_ms - floors[1].itl_ms == pytest.approx(saved_ms)
    assert floors[0].ttft_ms - floors[1].ttft_ms == pytest.approx(saved_ms)


def test_weights_in_the_cache_need_not_be_read() -> None:
    cached = msgspec.structs.replace(LLAMA, name="tiny")
    rates = Rates(read_bytes_per_s=1e9, flops_per_s=1e12, cache_bytes=14 << 30)
    found = floor(cached, "float16", rates, prompt_length=10, new_tokens=4)
    assert weights_fit_in_cache(cached, "float16", rates.cache_bytes)
    assert (found.ttft_bound, found.itl_bound) == ("arithmetic", "arithmetic")
    assert not weights_fit_in_cache(cached, "float32", rates.cache_bytes), "float32 is twice the stored bytes"


def test_a_sliding_window_bounds_attention_and_keys() -> None:
    windowed = msgspec.structs.replace(LLAMA, attention_window=100)
    full, narrow = (floor(model, "float16", H200, 1000, 4) for model in (LLAMA, windowed))
    assert narrow.itl_ms == pytest.approx(full.itl_ms - (1002 - 100) * 0.524288e6 / 4.3e12 * 1e3)
    assert narrow.ttft_ms < full.ttft_ms


@given(
    length=st.integers(1, 4000),
    new_tokens=st.integers(1, 64),
    bandwidth=st.floats(1e9, 1e13),
    rate=st.floats(1e9, 1e15),
    cache=st.integers(0, 20 << 30),
)
def test_floors_are_monotonic(length: int, new_tokens: int, bandwidth: float, rate: float, cache: int) -> None:
    rates = Rates(bandwidth, rate, cache)
    here = floor(LLAMA, "float16", rates, length, new_tokens)
    assert here.ttft_ms > 0 and here.itl_ms > 0
    longer = floor(LLAMA, "float16", rates, length + 1, new_tokens)
    faster = floor(LLAMA, "float16", Rates(2 * bandwidth, 2 * rate, cache), length, new_tokens)
    larger_cache = floor(LLAMA, "float16", Rates(bandwidth, rate, cache + (1 << 30)), length, new_tokens)
    assert longer.ttft_ms >= here.ttft_ms and longer.itl_ms >= here.itl_ms
    assert faster.ttft_ms == pytest.approx(here.ttft_ms / 2) and faster.itl_ms == pytest.approx(here.itl_ms / 2)
    assert larger_cache.ttft_ms <= here.ttft_ms and larger_cache.itl_ms <= here.itl_ms
