"""The tiles of the kernels fit devices that nobody has tried; needs no triton."""

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
    from firsttoken.compiled.tiles import attention_tiles

    for count in (2, 16, 17, 32, 33, 500):
        tiles = attention_tiles(count, head_dim, element_bytes, program_bytes)
        held = (tiles.queries + 2 * tiles.keys * tiles.stages) * head_dim * element_bytes
        assert held < program_bytes
        assert tiles.queries % tiles.keys == 0, "the cache is filled by whole blocks of queries"
        assert tiles.keys >= 16, "a tensor core's product is at least so deep"


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("rows", [8, 77, 4096, 12288, 152064])
def test_shares_of_a_product_cover_its_rows(rows: int, gated: bool) -> None:
    from firsttoken.compiled.tiles import FEW_ROWS, PRODUCT_DEPTH, Linear, product_tiles, shared_memory_bytes

    linear = Linear(torch.empty(rows * (2 if gated else 1), 16, dtype=torch.float16), gated=gated)
    tiles = product_tiles(linear)
    assert tiles.share <= tiles.block <= 128
    assert tiles.block & (tiles.block - 1) == 0
    assert tiles.stages >= 2
    stage_bytes = (tiles.block * (2 if gated else 1) + FEW_ROWS) * PRODUCT_DEPTH * 2
    assert tiles.stages == 2 or tiles.stages * stage_bytes <= shared_memory_bytes(torch.device("cpu"), 2)
