"""Norms folded into the products behind them: found by what follows what; same logits; one loop when compiled."""

from __future__ import annotations

import re
from typing import Any

import pytest

from unit.tiny_models import build_tiny_model, prompt_ids

torch = pytest.importorskip("torch")


def fold(model: Any) -> int:
    from firsttoken.compiled.folded_norms import fold_norms
    from firsttoken.compiled.fused_projections import fuse_projections, part_gate_and_up

    with torch.inference_mode():
        fuse_projections(model)
        folded = fold_norms(model, lambda: model(torch.zeros(1, 1, dtype=torch.int64), use_cache=False))
    part_gate_and_up(model)
    return folded


@pytest.mark.parametrize(
    ("family", "norms"),
    [("llama_gqa", 4), ("gemma", 4), ("qwen3", 4), ("gpt2", 0)],  # Qwen3's norms of q and k and the last norm stay
)
def test_logits_stay_for_one_row_and_for_many(family: str, norms: int) -> None:
    model, folded = build_tiny_model(family), build_tiny_model(family)
    assert fold(folded) == norms
    for length in (1, 9):
        ids = torch.tensor([prompt_ids(length)])
        with torch.inference_mode():
            torch.testing.assert_close(
                folded(ids, use_cache=False).logits, model(ids, use_cache=False).logits, atol=1e-4, rtol=1e-4
            )


def test_a_norm_of_another_formula_is_left_alone() -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    class DoubledRMSNorm(LlamaRMSNorm):
        def forward(self, hidden: Any) -> Any:
            return 2 * super().forward(hidden)

    model = build_tiny_model("llama_gqa")
    model.model.layers[0].input_layernorm.__class__ = DoubledRMSNorm
    assert fold(model) == 3


@pytest.mark.slow
def test_compiled_decode_has_no_kernel_for_the_norm_or_the_gate() -> None:
    """Gate, up and the norm's sum are three sums of one loop; only the product behind them remains a call."""
    from torch._inductor.utils import run_and_get_code

    model = build_tiny_model("llama_gqa")
    fold(model)
    layer = model.model.layers[0]

    def feed_forward(hidden: Any) -> Any:
        return layer.mlp(layer.post_attention_layernorm(hidden))

    torch._dynamo.reset()
    with torch.inference_mode():
        _, code = run_and_get_code(torch.compile(feed_forward, fullgraph=True), torch.randn(1, 1, 32))
    text = "\n".join(code)
    assert len(re.findall(r"extern_kernels\.(?:add)?mm\(", text)) == 1
    loops = [part for part in text.split("for(int64_t x0=") if "tmp_acc2" in part]
    assert len(loops) == 1
