"""Which products Hopper's kernel takes, and with which tiles; the kernel itself is in tests/gpu/test_prefill.py."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import example, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from firsttoken.compiled import hopper  # noqa: E402
from firsttoken.compiled.tiles import Linear  # noqa: E402

SMS = 132


def linear(tall: int, columns: int, **kind: Any) -> Linear:
    return Linear(torch.empty(tall, columns, dtype=torch.float16, device="meta"), **kind)


@example(100, 32, 48, "residual")
@given(
    st.integers(1, hopper.MOST_ROWS),
    st.integers(1, 2048).map(lambda n: 16 * n),
    st.integers(1, 2048).map(lambda n: 8 * n),
    st.sampled_from(["plain", "gated", "residual"]),
)
def test_tiles(count: int, tall: int, columns: int, kind: str) -> None:
    """Seen failing: stages without the bytes of the transposed results; one group too many; parts without
    columns, whose sums would be what the registers held."""
    product = linear(tall, columns, **{kind: True} if kind != "plain" else {})
    tiles = hopper.hopper_tiles(product, count, torch.float16, SMS)
    static_bytes = 16 * tiles.stages + (16 if tiles.parts else 4 * 512 * tiles.groups)
    assert tiles.ring_bytes + static_bytes <= hopper.SHARED_BYTES
    assert tiles.stages >= 4
    assert count <= tiles.tokens < count + 16
    registers = 65536 // (512 if tiles.groups == 3 else 128 * tiles.groups + 32)
    assert tiles.tokens // 2 + 32 <= registers, "sums, and what else a thread holds"
    assert tiles.parts <= -(-columns // 64)
    blocks = -(-tall // (64 * tiles.groups)) * max(1, tiles.parts)
    if kind == "residual":
        assert blocks <= max(SMS, -(-tall // 64)), "one round, where it can be"
    else:
        rounds = {groups: groups * -(-tall // (64 * groups * SMS)) for groups in (1, 2, 3)}
        assert tiles.groups * -(-blocks // SMS) == min(rounds.values())


def test_llama_2_7b() -> None:
    """What was fastest on an H100: one round of blocks for every product."""
    shapes = [linear(12288, 4096), linear(22016, 4096, gated=True), linear(4096, 11008, residual=True)]
    found = [hopper.hopper_tiles(product, 100, torch.float16, SMS) for product in shapes]
    assert [(tiles.groups, tiles.stages, tiles.parts) for tiles in found] == [(2, 7, 0), (3, 5, 0), (1, 10, 2)]


@pytest.mark.parametrize(
    ("product", "count", "taken"),
    [
        (linear(96, 64), 1, True),
        (linear(96, 64), 192, True),
        (linear(96, 64), 193, False),
        (linear(96, 64, scale=torch.ones(96)), 64, False),
        (linear(96, 64, scale=torch.ones(96)), 65, True),
        (linear(96, 64, bias=torch.empty(96)), 100, False),
        (linear(100, 64), 100, False),  # rows of 200 bytes: no whole number of 16
        (linear(96, 60), 100, False),
        (linear(64, 96, residual=True), 100, True),
        (linear(64, 64, residual=True), 112, True),
        (linear(64, 64, residual=True), 113, False),
        (linear(64, 96, residual=True), 113, True),
    ],
)
def test_what_it_takes(product: Linear, count: int, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hopper, "available", lambda device: True)
    x = torch.empty(count, product.in_features, dtype=torch.float16, device="meta")
    assert hopper.takes(product, x) is taken
    assert not hopper.takes(product, x.float())


@pytest.mark.parametrize(
    ("capability", "bindings", "found"),
    [((9, 0), True, True), ((9, 0), False, False), ((10, 0), True, False), ((8, 0), True, False)],
)
def test_it_runs_on_one_generation_where_its_bindings_are(
    capability: tuple[int, int], bindings: bool, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(hopper, "find_spec", lambda name: object() if bindings else None)
    assert hopper.available.__wrapped__(torch.device("cuda")) is found
    assert not hopper.available.__wrapped__(torch.device("cpu"))
