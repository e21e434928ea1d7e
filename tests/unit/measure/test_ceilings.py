"""The ceilings are real measurements with their repeats kept; the cache's size is the kernel's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firsttoken import files
from firsttoken.measure import ceilings as module
from firsttoken.measure import kernel_rates, matrix_products
from firsttoken.measure.ceilings import buffer_bytes, last_level_cache_bytes, measure_ceilings
from firsttoken.plan import LinearLayer
from firsttoken.results import Ceilings
from unit.measure.test_latency_floor import LLAMA

torch = pytest.importorskip("torch")

REFERENCE = Path(__file__).parents[3] / "results" / "reference"

H, F, V = 32, 96, 500
TINY = msgspec.structs.replace(
    LLAMA,
    parameters=2 * H * (4 * H + 3 * F) + 2 * V * H,
    weight_bytes=4 * (2 * H * (4 * H + 3 * F) + 2 * V * H),
    read_bytes_per_token=4 * (2 * H * (4 * H + 3 * F) + V * H),
    flops_per_token=2 * (2 * H * (4 * H + 3 * F) + V * H),
    head_flops=2 * V * H,
    kv_bytes_per_token=4 * 2 * 2 * H,
    linear_layers=(
        LinearLayer(inputs=H, outputs=H, count=8),
        LinearLayer(inputs=H, outputs=F, count=4),
        LinearLayer(inputs=F, outputs=H, count=2),
        LinearLayer(inputs=H, outputs=V, count=1, head=True),
    ),
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code on little data for a short time."""
    monkeypatch.setattr(kernel_rates, "REPEATS", 3)
    monkeypatch.setattr(kernel_rates, "SUSTAINED_S", {"cpu": 0.001})
    monkeypatch.setattr(kernel_rates, "BURST_S", {"cpu": 0.001})
    monkeypatch.setattr(module, "LEAST_BUFFER_BYTES", {"cpu": 1 << 20})
    monkeypatch.setattr(module, "CACHES_READ", 0)
    monkeypatch.setattr(matrix_products, "SQUARES", {"cpu": (16, 32)})


def test_ceilings_are_the_best_of_their_samples(quick: None) -> None:
    threads = torch.get_num_threads()
    found = measure_ceilings(TINY, (10, 50), 4, "bfloat16", "cpu", threads=1)
    assert torch.get_num_threads() == threads, "the caller's threads are back"
    assert found.read_bandwidth_bytes_per_s == max(found.read_bandwidth_samples) > 0
    assert found.matrix_flops_per_s == max(found.matrix_flops_samples) > 0
    assert found.matrix_flops_per_s >= (found.matrix_flops_per_s_sustained or 0) > 0
    assert len(found.matrix_flops_samples) == len(found.read_bandwidth_samples) == 3
    assert found.read_bandwidth_kernel.startswith("torch.") and found.matrix_flops_kernel.startswith("torch.mm, ")
    assert [floor.prompt_length for floor in found.floors] == [10, 50]
    assert all(floor.library_ttft_ms > 0 for floor in found.floors if floor.library_ttft_ms is not None)
    assert None not in [floor.library_ttft_ms for floor in found.floors] and found.datasheet is None
    assert msgspec.json.decode(msgspec.json.encode(found), type=Ceilings) == found


def test_without_known_products_there_is_no_library_time(quick: None) -> None:
    """A mixture of experts; its floor stands all the same."""
    experts = msgspec.structs.replace(TINY, linear_layers=())
    (found,) = measure_ceilings(experts, (10,), 4, "float32", "cpu", threads=1).floors
    assert found.library_ttft_ms is None and found.ttft_ms > 0


@pytest.mark.parametrize("study", sorted(REFERENCE.glob("*/ceilings.json")), ids=lambda path: path.parent.name)
def test_shipped_ceilings_can_be_read(study: Path) -> None:
    assert files.read_json(study, Ceilings).floors


def test_every_read_kernel_touches_all_that_it_counts(quick: None) -> None:
    kernels = list(module.read_kernels("cpu", 0, torch.bfloat16))
    assert len(kernels) == 4
    assert {kernel.work for kernel in kernels} == {float(buffer_bytes("cpu", 0))}
    results: list[Any] = [kernel.call() for kernel in kernels[:3]]
    total, largest, product = results
    assert 0.4 < float(total) / (buffer_bytes("cpu", 0) / 4) < 0.6, "random data, not zeros"
    assert largest.shape == () and product.shape == (buffer_bytes("cpu", 0) // (4 * 8192),)


def test_parts_of_the_buffer_are_read_too_where_they_exceed_the_cache(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHES_READ", 8)
    monkeypatch.setattr(module, "PARTS_READ", {"cpu": (1, 2, 4)})
    sizes = {kernel.work for kernel in module.read_kernels("cpu", 1 << 16, torch.float32)}
    assert sizes == {float(1 << 20), float(1 << 19)}, "a quarter is no longer eight caches large"


def test_the_buffer_is_several_caches_large() -> None:
    assert buffer_bytes("cpu", 1 << 20) == 256 << 20
    assert buffer_bytes("cpu", 1 << 50) < 1 << 50, "a quarter of the free memory at most"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_a_device_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="finds no CUDA device"):
        measure_ceilings(LLAMA, (10,), 4, "float16", "cuda", threads=1)


def make_cache(folder: Path, core: int, index: int, level: int, kind: str, size: str, shared: str) -> None:
    cache = folder / f"cpu{core}" / "cache" / f"index{index}"
    cache.mkdir(parents=True)
    for name, text in (("level", str(level)), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
        (cache / name).write_text(text + "\n")


def test_last_level_caches_are_counted_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for core in range(4):
        make_cache(tmp_path, core, 0, 1, "Data", "32K", str(core))
        make_cache(tmp_path, core, 1, 1, "Instruction", "64M", str(core))
        make_cache(tmp_path, core, 2, 3, "Unified", "32768K", "0-1" if core < 2 else "2-3")

    def found(folder: Path, cores: set[int]) -> int:
        monkeypatch.setattr(module, "CACHE_FOLDER", folder)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
        return last_level_cache_bytes()

    assert found(tmp_path, {0, 1, 2, 3}) == 2 * (32 << 20)
    assert found(tmp_path, {0, 1}) == 32 << 20
    assert found(tmp_path / "none", {0}) == 0
