"""The tiles of the kernels fit devices that nobody has tried; needs no triton."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

KIB = 1024
# Shared memory of a program on compute capability 8.0, 8.6 and 9.0, less what each takes beside its own
PROGRAM_BYTES = [160 * KIB, 95 * KIB, 224 * KIB]


@pytest.mark.parametrize("program_bytes", PROGRAM_BYTES)
@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("head_dim", [16, 64, 128, 256])
def test_attention_fits_and_its_blocks_divide(program_bytes: int, element_bytes: int, head_dim: int) -> None:
    from firsttoken.compiled.tiles import WARP_KEYS, attention_tiles

    for count in (2, 16, 17, 32, 33, 64, 65, 112, 113, 500):
        tiles = attention_tiles(count, head_dim, element_bytes, program_bytes)
        held = (tiles.queries + 2 * tiles.keys * tiles.stages) * head_dim * element_bytes
        assert held < program_bytes
        assert tiles.queries % tiles.keys == 0, "the cache is filled by whole blocks of queries"
        assert tiles.keys >= 16, "a tensor core's product is at least so deep"
        assert tiles.keys * head_dim <= tiles.warps * WARP_KEYS


@pytest.mark.parametrize("program_bytes", PROGRAM_BYTES)
@pytest.mark.parametrize("kind", ["plain", "gated", "residual"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.int8])
def test_products_of_few_rows_fit(program_bytes: int, kind: str, dtype: Any, monkeypatch: Any) -> None:
    from firsttoken.compiled import tiles

    monkeypatch.setattr(tiles, "shared_memory_bytes", lambda device: program_bytes)
    scale = torch.ones(64) if dtype == torch.int8 else None
    gated, residual = kind == "gated", kind == "residual"
    linear = tiles.Linear(torch.empty(64, 16, dtype=dtype), gated=gated, residual=residual, scale=scale)
    for count in range(1, tiles.FEW_ROWS + 1):
        found = tiles.product_tiles(linear, count)
        assert found.tokens >= count
        assert found.stages >= 2
        weight_bytes = found.rows * (2 if gated else 1) * linear.weight.element_size()
        held_bytes = found.stages * (weight_bytes + found.tokens * 2) * found.columns
        assert held_bytes <= program_bytes


@pytest.mark.parametrize(
    ("capability", "cuda", "early"),
    [((9, 0), "13.0", True), ((9, 0), "12.2", False), ((9, 0), "", False), ((8, 0), "13.0", False)],
)
def test_kernels_are_launched_early_where_graphs_can_hold_that(
    capability: tuple[int, int], cuda: str, early: bool, monkeypatch: Any
) -> None:
    from firsttoken.compiled import tiles

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(tiles, "driver_versions", lambda: ("580.1", cuda))
    assert tiles.dependent_launch.__wrapped__(torch.device("cuda")) is early
    assert not tiles.dependent_launch.__wrapped__(torch.device("cpu"))
