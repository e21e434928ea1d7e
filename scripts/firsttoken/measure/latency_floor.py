"""The least time that a model can take on a device: what must be read or computed, over what the device was seen to
reach.

True lower bounds, so that a median below one is a mistake in the measurement and not a record. Where the exact
amount is not known, the smaller one is taken: attention as narrow as the narrowest layer and with as many heads as
keys have.
"""

from __future__ import annotations

from dataclasses import dataclass

from firsttoken.plan import DTYPE_BYTES, ModelManifest
from firsttoken.results import Bound, Floor

SCALE_BYTES = 4  # of a row of 8-bit weights


@dataclass(frozen=True)
class Rates:
    """What the device reaches; `cache_bytes` is its last-level cache."""

    read_bytes_per_s: float
    flops_per_s: float
    cache_bytes: int


def weights_fit_in_cache(manifest: ModelManifest, dtype: str, cache_bytes: int) -> bool:
    """Whether a decode step can find all its weights in the last-level cache."""
    return _work(manifest, dtype).weight_bytes <= cache_bytes


def floor(
    manifest: ModelManifest, dtype: str, rates: Rates, prompt_length: int, new_tokens: int, int8: bool = False
) -> Floor:
    """The floors of TTFT and of the request mean ITL at one prompt length.

    The first token needs the prompt's forward pass, with the vocabulary projection of the last position only. Each
    later token needs the weights once and the keys and values of its context, on average the prompt and half of the
    new tokens. `int8`: each matrix has 8-bit weights and a float32 scale for each row.
    """
    work = _work(manifest, dtype, int8)
    context = prompt_length + new_tokens / 2
    prefill_flops = (
        prompt_length * (manifest.flops_per_token - work.head_flops)
        + work.head_flops
        + work.attention_flops_per_pair * sum(work.attended(position + 1) for position in range(prompt_length))
    )
    decode_flops = manifest.flops_per_token + work.attention_flops_per_pair * work.attended(context)
    ttft_ms, ttft_bound = _least_ms(work, 0.0, prefill_flops, rates)
    itl_ms, itl_bound = _least_ms(work, work.kv_bytes_per_token * work.attended(context), decode_flops, rates)
    return Floor(
        prompt_length=prompt_length, ttft_ms=ttft_ms, ttft_bound=ttft_bound, itl_ms=itl_ms, itl_bound=itl_bound
    )


@dataclass(frozen=True)
class _Work:
    weight_bytes: float
    kv_bytes_per_token: float
    head_flops: int
    attention_flops_per_pair: float  # of one query position with one key position, over all layers
    window: int

    def attended(self, context: float) -> float:
        return min(context, self.window) if self.window else context


def _work(manifest: ModelManifest, dtype: str, int8: bool = False) -> _Work:
    stored_item_bytes = max(1, round(manifest.weight_bytes / manifest.parameters))
    weight_bytes = manifest.read_bytes_per_token / stored_item_bytes * DTYPE_BYTES[dtype]
    for layer in manifest.linear_layers if int8 else ():
        weight_bytes -= layer.count * layer.outputs * (layer.inputs * (DTYPE_BYTES[dtype] - 1) - SCALE_BYTES)
    kv_values = manifest.kv_bytes_per_token / stored_item_bytes
    return _Work(
        weight_bytes=weight_bytes,
        kv_bytes_per_token=kv_values * DTYPE_BYTES[dtype],
        head_flops=manifest.head_flops,
        # Two products (with K, with V) of 2 operations for each of the keys' values and for each of the values'
        # values; K and V are half of kv_values each. Grouped queries repeat this for each query head of a group:
        # left out, a lower bound.
        attention_flops_per_pair=2 * kv_values,
        window=manifest.attention_window,
    )


def _least_ms(work: _Work, kv_bytes: float, flops: float, rates: Rates) -> tuple[float, Bound]:
    """The larger of both times. What the cache may still hold from the step before need not be read again."""
    must_read = max(0.0, work.weight_bytes - rates.cache_bytes)
    if must_read:
        must_read += kv_bytes
    reading_ms = must_read / rates.read_bytes_per_s * 1e3
    computing_ms = flops / rates.flops_per_s * 1e3
    return (reading_ms, "bandwidth") if reading_ms > computing_ms else (computing_ms, "arithmetic")
