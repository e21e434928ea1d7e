"""Attention with its own cache against stock attention: windows, groups, caps; unknown wishes are refused."""

from __future__ import annotations

import types

import pytest

torch = pytest.importorskip("torch")

HEADS, DIM, CONTEXT = 4, 8, 24


def stock(query, key, value, window: int | None, softcap: float | None):
    """Every query over every key, by definition. `[1, heads, L, d]` -> `[1, L, heads, d]`."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) * DIM**-0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    index = torch.arange(query.shape[2])
    seen = index[None] <= index[:, None]
    if window is not None:
        seen &= index[None] > index[:, None] - window
    return (scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("form", ["plain", "sdpa"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (None, 2.0), (5, 2.0)])
def test_prefill_and_decode_equal_the_definition(form: str, kv_heads: int, window, softcap) -> None:
    from firsttoken.compiled.compiled_attention import DecodeView, LayerKV, attend

    torch.manual_seed(3)
    query = torch.randn(1, HEADS, 15, DIM)
    key, value = torch.randn(2, 1, kv_heads, 15, DIM)
    expected = stock(query, key, value, window, softcap)
    position = torch.zeros(1, dtype=torch.int64)
    view = DecodeView(bucket=16, form=form)
    # What an earlier, longer request left in the cache must not be seen.
    stale = torch.full((1, kv_heads, CONTEXT, DIM), 1e4)
    module = types.SimpleNamespace(layer_kv=LayerKV(stale.clone(), stale.clone(), position, view))
    wishes = {"sliding_window": window, "softcap": softcap, "dropout": 0.0}
    output, _ = attend(module, query[:, :, :9], key[:, :, :9], value[:, :, :9], None, **wishes)
    torch.testing.assert_close(output, expected[:, :9])
    for step in range(9, 15):
        position.fill_(step)
        one = slice(step, step + 1)
        output, _ = attend(module, query[:, :, one], key[:, :, one], value[:, :, one], None, **wishes)
        torch.testing.assert_close(output, expected[:, one])


def test_what_is_not_computed_is_refused() -> None:
    from firsttoken.compiled.compiled_attention import attend
    from firsttoken.plan import Unsupported

    tensors = torch.randn(3, 1, HEADS, 1, DIM)
    module = types.SimpleNamespace()
    with pytest.raises(Unsupported, match="s_aux"):
        attend(module, *tensors, None, s_aux=torch.zeros(HEADS))
    with pytest.raises(Unsupported, match="mask"):
        attend(module, *tensors, torch.zeros(1, 1, 1, 1))
