"""The ceilings are real measurements with their repeats kept; the cache's size is the kernel's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firsttoken.measure import ceilings as module
from firsttoken.measure.ceilings import best_of, buffer_bytes, last_level_cache_bytes, measure_ceilings
from firsttoken.plan import Device
from firsttoken.results import Ceilings
from unit.measure.test_latency_floor import LLAMA

torch = pytest.importorskip("torch")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code on little data for a short time."""
    monkeypatch.setattr(module, "REPEATS", 3)
    monkeypatch.setattr(module, "WARM_S", {"cpu": 0.001})
    monkeypatch.setattr(module, "LEAST_SAMPLE_S", {"cpu": 0.001})
    monkeypatch.setattr(module, "LEAST_BUFFER_BYTES", {"cpu": 1 << 20})
    monkeypatch.setattr(module, "CACHES_READ", 0)
    monkeypatch.setattr(module, "MATRIX_SIZES", {"cpu": (16, 32)})


def test_ceilings_are_the_best_of_their_samples(quick: None) -> None:
    threads = torch.get_num_threads()
    found = measure_ceilings(LLAMA, (10, 50), 4, "bfloat16", "cpu", threads=1)
    assert torch.get_num_threads() == threads, "the caller's threads are back"
    assert found.read_bandwidth_bytes_per_s == max(found.read_bandwidth_samples) > 0
    assert found.matrix_flops_per_s == max(found.matrix_flops_samples) > 0
    assert len(found.matrix_flops_samples) == len(found.read_bandwidth_samples) == 3
    assert [floor.prompt_length for floor in found.floors] == [10, 50]
    assert msgspec.json.decode(msgspec.json.encode(found), type=Ceilings) == found


def test_the_best_kernel_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def rates_of(work: float, call: object, device: Device) -> tuple[float, ...]:
        return {1.0: (5.0, 5.0), 2.0: (1.0, 9.0), 3.0: (8.0, 8.0)}[work]

    def kernels() -> Iterator[tuple[float, object]]:
        yield from ((work, None) for work in (1.0, 2.0, 3.0))

    monkeypatch.setattr(module, "rates_of", rates_of)
    assert best_of(kernels(), "cpu") == (1.0, 9.0)  # type: ignore[arg-type]


def test_every_read_kernel_touches_all_that_it_counts(quick: None) -> None:
    kernels = list(module.read_kernels("cpu", 0))
    assert len(kernels) == 4
    assert {work for work, _ in kernels} == {float(buffer_bytes("cpu", 0))}
    results: list[Any] = [call() for _, call in kernels[:3]]
    total, largest, product = results
    assert 0.4 < float(total) / (buffer_bytes("cpu", 0) / 4) < 0.6, "random data, not zeros"
    assert largest.shape == () and product.shape == (buffer_bytes("cpu", 0) // (4 * 8192),)


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
