"""The model's own products are among those tried, every layout computes the same, and no layer is left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from firsttoken.measure import matrix_products as module
from firsttoken.measure.matrix_products import library_times_ms, matrix_kernels, product
from firsttoken.plan import Device, LinearLayer

torch = pytest.importorskip("torch")

LAYERS = (
    LinearLayer(inputs=32, outputs=96, count=6),
    LinearLayer(inputs=96, outputs=32, count=3),
    LinearLayer(inputs=32, outputs=500, count=1, head=True),
)


def test_the_models_own_shapes_are_tried_in_every_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SQUARES", {"cpu": (16, 128)})
    kernels = list(matrix_kernels("cpu", torch.float32, LAYERS[:2], (10, 150)))
    names = {kernel.name for kernel in kernels}
    assert names >= {f"torch.mm, {layout}, 150 x 96 x 32" for layout in ("NN", "NT", "TN")}
    assert "torch.mm, NN, 128 x 32 x 96" in names and "torch.mm, NN, 16 x 16 x 16" in names
    assert not any(", 10 x " in name for name in names), "a short prompt is bound by reading"
    assert not any(", 512 x 96 x 96" in name for name in names)
    works = {kernel.name: kernel.work for kernel in kernels}
    assert works["torch.mm, NT, 150 x 96 x 32"] == 2 * 150 * 96 * 32
    assert max(works.values()) <= 2 * 128**3, "none is larger than the largest square"


@pytest.mark.parametrize("layout", module.LAYOUTS)
def test_a_product_of_stored_values(layout: str) -> None:
    left, right = torch.randn(5 * 7), torch.randn(7 * 3)
    out = torch.empty(5, 3)
    product(layout, left, right, out)()
    a = left.view(5, 7) if layout[0] == "N" else left.view(7, 5).T
    b = right.view(7, 3) if layout[1] == "N" else right.view(3, 7).T
    assert torch.allclose(out, a @ b, atol=1e-5)


@pytest.mark.parametrize("cache_bytes", [0, 10_000])
def test_the_librarys_time_counts_every_layer_and_the_head_for_one_row(
    monkeypatch: pytest.MonkeyPatch, cache_bytes: int
) -> None:
    """With a clock that ticks once for each operation of a product."""
    ticks = 0.0

    def counted(layout: str, left: object, right: object, out: object) -> Callable[[], object]:
        m, n = out.shape  # type: ignore[attr-defined]
        operations = 2 * m * n * right.numel() // n  # type: ignore[attr-defined]

        def call() -> None:
            nonlocal ticks
            ticks += operations

        return call

    def seconds(call: Callable[[], object], times: int, device: Device) -> float:
        before = ticks
        call()
        return ticks - before

    monkeypatch.setattr(module, "product", counted)
    monkeypatch.setattr(module, "seconds", seconds)
    found = library_times_ms(LAYERS, (10, 50), torch.float32, "cpu", cache_bytes)
    body, head = 6 * 32 * 96 + 3 * 96 * 32, 32 * 500
    assert found == pytest.approx([1e3 * 2 * (rows * body + head) for rows in (10, 50)])


def test_weights_exceed_the_cache_unless_the_model_fits_into_it() -> None:
    layer = LAYERS[0]
    weights = list(module._weights(layer, torch.float32, "cpu", 50_000))
    assert sum(weight.nbytes for weight in weights) >= module.CACHES_READ * 50_000
    assert len({weight.data_ptr() for weight in weights}) == len(weights)
    assert len(list(module._weights(layer, torch.float32, "cpu", 0))) == layer.count


def test_a_model_without_known_products_takes_no_time() -> None:
    assert library_times_ms((), (10, 50), torch.float32, "cpu", 0) == [0.0, 0.0]
