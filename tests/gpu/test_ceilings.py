"""On a device: the floor is below what the library takes, and the ceilings are plausible beside the datasheet."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from firsttoken.hardware import require_gpu
from firsttoken.measure.ceilings import measure_ceilings
from firsttoken.measure.datasheet import datasheet_peak
from firsttoken.measure.kernel_rates import blas_library
from firsttoken.plan import LinearLayer
from firsttoken.results import Ceilings
from unit.measure.test_latency_floor import LLAMA

torch = pytest.importorskip("torch")
DEVICES = Path(__file__).parents[2] / "config" / "devices.csv"
MODEL = msgspec.structs.replace(
    LLAMA,
    linear_layers=(
        LinearLayer(inputs=4096, outputs=4096, count=128),
        LinearLayer(inputs=4096, outputs=11008, count=64),
        LinearLayer(inputs=11008, outputs=4096, count=32),
        LinearLayer(inputs=4096, outputs=32000, count=1, head=True),
    ),
)


@pytest.fixture(scope="module")
def measured() -> tuple[Ceilings, float]:
    """The ceilings of Llama-2-7B's shape in float16, and how many seconds they took."""
    peak = datasheet_peak(DEVICES, require_gpu(), "float16")
    begun = time.monotonic()
    found = measure_ceilings(MODEL, (10, 500), 4, "float16", "cuda", threads=4, datasheet=peak)
    return found, time.monotonic() - begun


def test_the_floor_is_below_what_the_library_takes(measured: tuple[Ceilings, float]) -> None:
    for floor in measured[0].floors:
        assert floor.library_ttft_ms is not None and floor.ttft_ms < floor.library_ttft_ms < 3 * floor.ttft_ms, floor


def test_the_best_rate_is_no_less_than_the_sustained_one_and_no_more_than_the_datasheets(
    measured: tuple[Ceilings, float],
) -> None:
    found, took_s = measured
    assert found.matrix_flops_per_s >= (found.matrix_flops_per_s_sustained or 0) > 0
    if found.datasheet and found.datasheet.matrix_flops_per_s:
        assert 0.6 < found.matrix_flops_per_s / found.datasheet.matrix_flops_per_s < 1
        assert 0.6 < found.read_bandwidth_bytes_per_s / found.datasheet.read_bandwidth_bytes_per_s < 1
    assert took_s < 30, "about 20 s on an H100, the loading of all kernels included"


def test_the_preferred_library_is_the_callers_again() -> None:
    before = torch.backends.cuda.preferred_blas_library()
    with blas_library("cublaslt"):
        assert "Cublaslt" in str(torch.backends.cuda.preferred_blas_library())
    assert torch.backends.cuda.preferred_blas_library() == before
