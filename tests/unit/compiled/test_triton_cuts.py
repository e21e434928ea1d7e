"""How the prefill kernels are cut fits devices that nobody has tried; needs no triton."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

KIB = 1024
# Shared memory of a program on compute capability 8.0, 8.6 and 9.0, less what each takes beside its own
PROGRAM_BYTES = [160 * KIB, 95 * KIB, 224 * KIB]


@pytest.mark.parametrize("program_bytes", PROGRAM_BYTES)
@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("head_dim", [16, 64, 128, 256])
def test_attention_fits_and_its_blocks_divide(program_bytes: int, element_bytes: int, head_dim: int) -> None:
    from firsttoken.compiled.triton_prompt import attention_cut

    for count in (2, 16, 17, 32, 33, 500):
        cut = attention_cut(count, head_dim, element_bytes, program_bytes)
        held = (cut.queries + 2 * cut.keys * cut.stages) * head_dim * element_bytes
        assert held < program_bytes
        assert cut.queries % cut.keys == 0, "the cache is filled by whole blocks of queries"
        assert cut.keys >= 16, "a tensor core's product is at least so deep"


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("rows", [8, 77, 4096, 12288, 152064])
def test_shares_of_a_product_cover_its_rows(rows: int, gated: bool) -> None:
    from firsttoken.compiled.triton_launch import Matvec
    from firsttoken.compiled.triton_prompt import FEW_ROWS, PRODUCT_DEPTH, product_cut, shared_bytes

    product = Matvec(torch.empty(rows * (2 if gated else 1), 16, dtype=torch.float16), gated=gated)
    cut = product_cut(product)
    assert cut.share <= cut.block <= 128
    assert cut.block & (cut.block - 1) == 0
    assert cut.stages >= 2
    stage_bytes = (cut.block * (2 if gated else 1) + FEW_ROWS) * PRODUCT_DEPTH * 2
    assert cut.stages == 2 or cut.stages * stage_bytes <= shared_bytes(torch.device("cpu"), 2)
