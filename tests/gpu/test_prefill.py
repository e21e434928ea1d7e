"""The prefill kernels compiled, in float16 and bfloat16, against float32."""

from __future__ import annotations

import pytest

from fakes.prompt_math import ProductCase, PromptCase, check_attention_rows, check_linear_rows

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from firsttoken.compiled import hopper  # noqa: E402
from firsttoken.compiled.tiles import FEW_ROWS  # noqa: E402

PRODUCTS = [
    ProductCase(count=10, rows=12288, columns=4096, norm=True),  # from here to 192, on Hopper, a kernel of its own
    ProductCase(count=16, rows=4096, columns=11008, residual=True),
    ProductCase(count=10, rows=11008, columns=4096, norm=True, gated=True),
    ProductCase(count=1, rows=1000, columns=1048, norm=True, gated=True),
    ProductCase(count=17, rows=4096, columns=4096, residual=True),
    ProductCase(count=3, rows=1001, columns=1048, norm=True, bias=True, gated=True),
    ProductCase(count=7, rows=77, columns=32, residual=True, bias=True),
    ProductCase(count=9, rows=40000, columns=512),
    ProductCase(count=30, rows=12288, columns=4096, norm=True),
    ProductCase(count=64, rows=4096, columns=11008, residual=True),
    ProductCase(count=50, rows=11008, columns=4096, norm=True, gated=True),
    ProductCase(count=33, rows=1001, columns=1048, norm=True, bias=True, gated=True),
    ProductCase(count=65, rows=12288, columns=4096, norm=True),
    ProductCase(count=100, rows=11008, columns=4096, norm=True, gated=True),
    ProductCase(count=112, rows=4096, columns=11008, residual=True),
    ProductCase(count=128, rows=14336, columns=4096, norm=True, gated=True),  # more blocks than SMs
    ProductCase(count=113, rows=1000, columns=1048, norm=True, gated=True),  # neither divides its block
    ProductCase(count=90, rows=1000, columns=1048, norm=True),
    ProductCase(count=128, rows=1000, columns=1048, residual=True),
    ProductCase(count=192, rows=14336, columns=4096, norm=True, gated=True),
    ProductCase(count=150, rows=12288, columns=4096, norm=True),
    ProductCase(count=180, rows=4096, columns=11008, residual=True),
    ProductCase(count=113, rows=4096, columns=4096, residual=True),  # cuBLAS
    ProductCase(count=100, rows=32, columns=48, residual=True),  # fewer columns than a block has
    ProductCase(count=500, rows=11008, columns=4096, norm=True, gated=True),
    ProductCase(count=100, rows=4096, columns=4096, residual=True, bias=True),
    ProductCase(count=10, rows=11008, columns=4096, norm=True, gated=True, int8=True),
    ProductCase(count=16, rows=4096, columns=11008, residual=True, int8=True),
    ProductCase(count=20, rows=12288, columns=4096, norm=True, int8=True),
    ProductCase(count=50, rows=11008, columns=4096, norm=True, gated=True, int8=True),
    ProductCase(count=7, rows=77, columns=48, residual=True, bias=True, int8=True),
    ProductCase(count=100, rows=11008, columns=4096, norm=True, gated=True, int8=True),
    ProductCase(count=70, rows=4096, columns=11008, residual=True, int8=True),
    ProductCase(count=100, rows=4096, columns=4096, residual=True, bias=True, int8=True),
]
ATTENTIONS = [
    PromptCase(heads=32, kv_heads=32, head_dim=128, count=10),
    PromptCase(heads=32, kv_heads=8, head_dim=128, count=500, norms=True),
    PromptCase(heads=32, kv_heads=32, head_dim=128, count=50),
    PromptCase(heads=32, kv_heads=8, head_dim=128, count=112, norms=True),
    PromptCase(heads=4, kv_heads=2, head_dim=256, count=64),
    PromptCase(heads=8, kv_heads=2, head_dim=64, count=65),
    PromptCase(heads=8, kv_heads=8, head_dim=64, count=40, norms=True, window=9),
    PromptCase(heads=8, kv_heads=2, head_dim=128, count=2000, window=300),
    PromptCase(heads=4, kv_heads=2, head_dim=16, count=128),
    PromptCase(heads=4, kv_heads=1, head_dim=256, count=300),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: f"{case.count}-{case.rows}x{case.columns}")
def test_product_of_rows(case: ProductCase, dtype: str) -> None:
    for _ in range(3):  # a race would show in some of them
        check_linear_rows(case, torch.device("cuda"), getattr(torch, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "case", [case for case in PRODUCTS if case.count <= FEW_ROWS], ids=lambda case: f"{case.count}-{case.rows}"
)
def test_product_of_few_rows_on_other_gpus(case: ProductCase, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hopper, "available", lambda device: False)
    check_linear_rows(case, torch.device("cuda"), getattr(torch, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", ATTENTIONS, ids=lambda case: f"{case.heads}-{case.kv_heads}-{case.count}")
def test_attention_of_a_prompt(case: PromptCase, dtype: str) -> None:
    """Seen to fail with a window one too wide."""
    for _ in range(3):
        check_attention_rows(case, torch.device("cuda"), getattr(torch, dtype))
