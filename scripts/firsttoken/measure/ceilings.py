"""What this device reaches: read bandwidth and matrix rate, measured with random data and the study's own library.

A ceiling is the best that any of several kernels and sizes reached in any repeat, since the floors that follow from
it must not be beaten by a kernel that is better than one of ours. All repeats of the best kernel are kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.collector import garbage_collector_off
from firsttoken.measure.latency_floor import Rates, floor, weights_fit_in_cache
from firsttoken.plan import Device, ModelManifest
from firsttoken.results import Ceilings

if TYPE_CHECKING:
    import torch

REPEATS = 12
# A sample repeats its kernel for this long; clocks and ticks vanish in it.
LEAST_SAMPLE_S = {"cpu": 0.02, "cuda": 0.005}
WARM_S = {"cpu": 0.1, "cuda": 0.5}  # a GPU needs this long to raise its clocks
CACHES_READ = 8  # the buffer is this many times the last-level cache
LEAST_BUFFER_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
# On a CPU a small product in the cache can beat a large one; a tiny model consists of such.
MATRIX_SIZES = {"cpu": (128, 256, 512, 1024, 2048), "cuda": (2048, 4096, 8192)}
CACHE_FOLDER = Path("/sys/devices/system/cpu")


def measure_ceilings(
    manifest: ModelManifest, prompt_lengths: Sequence[int], new_tokens: int, dtype: str, device: Device, threads: int
) -> Ceilings:
    """Measure the device (a few seconds) and derive the model's floors at each prompt length.

    TF32 is as the library has it by default, off. Raises RuntimeError for CUDA without a device.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("ceilings: the study's device is cuda, but torch finds no CUDA device")
    on_gpu = device == "cuda"
    cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size if on_gpu else last_level_cache_bytes()
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), garbage_collector_off():
            reads = best_of(read_kernels(device, cache_bytes), device)
            products = best_of(matrix_kernels(device, getattr(torch, dtype)), device)
    finally:
        torch.set_num_threads(threads_before)
    rates = Rates(max(reads), max(products), cache_bytes)
    return Ceilings(
        device=device,
        dtype=dtype,
        read_bandwidth_bytes_per_s=rates.read_bytes_per_s,
        read_bandwidth_samples=reads,
        matrix_flops_per_s=rates.flops_per_s,
        matrix_flops_samples=products,
        last_level_cache_bytes=cache_bytes,
        weights_fit_in_cache=weights_fit_in_cache(manifest, dtype, cache_bytes),
        floors=tuple(floor(manifest, dtype, rates, length, new_tokens) for length in prompt_lengths),
    )


def read_kernels(device: Device, cache_bytes: int) -> Iterator[tuple[float, Callable[[], object]]]:
    """Bytes moved, and the call: a sum, a largest value, a matrix-vector product, and a copy (read and written)."""
    import torch

    columns = 8192
    rows = buffer_bytes(device, cache_bytes) // (4 * columns)
    matrix = torch.rand(rows, columns, device=device)
    vector = torch.rand(columns, device=device)
    size = float(matrix.nbytes)
    yield size, lambda: matrix.sum()
    yield size, lambda: matrix.amax()
    yield size, lambda: torch.mv(matrix, vector)
    half = rows // 2
    yield size / 2 * 2, lambda: matrix[:half].copy_(matrix[half : 2 * half])


def buffer_bytes(device: Device, cache_bytes: int) -> int:
    """Several caches large, so that nothing of one pass is left for the next; at most a quarter of the free memory."""
    if device == "cuda":
        import torch

        free = torch.cuda.mem_get_info()[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(CACHES_READ * cache_bytes, LEAST_BUFFER_BYTES[device]), free // 4)


def matrix_kernels(device: Device, dtype: torch.dtype) -> Iterator[tuple[float, Callable[[], object]]]:
    """Operations, and the call: square products of several sizes."""
    import torch

    for size in MATRIX_SIZES[device]:
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(left)
        yield 2.0 * size**3, lambda a=left, b=right, c=out: torch.mm(a, b, out=c)  # type: ignore[misc]


def best_of(kernels: Iterator[tuple[float, Callable[[], object]]], device: Device) -> tuple[float, ...]:
    """Work a second in each repeat of the kernel whose best repeat is the best."""
    return max((rates_of(work, call, device) for work, call in kernels), key=max)


def rates_of(work: float, call: Callable[[], object], device: Device) -> tuple[float, ...]:
    """Work a second in each of `REPEATS` samples, after a warm-up that also sets how many calls a sample has."""
    calls = 0
    begun = time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < WARM_S[device]:
        _seconds(call, 1, device)
        calls += 1
    inner = max(1, round(LEAST_SAMPLE_S[device] * calls / elapsed))
    return tuple(work * inner / _seconds(call, inner, device) for _ in range(REPEATS))


def _seconds(call: Callable[[], object], times: int, device: Device) -> float:
    if device == "cuda":
        import torch

        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        for _ in range(times):
            call()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - begun


def last_level_cache_bytes() -> int:
    """All last-level caches together that serve the cores we may use; 0 where the kernel does not tell.

    From sysfs (Documentation/ABI/testing/sysfs-devices-system-cpu): a cache is named by the cores that share it.
    """
    found: dict[tuple[int, str], int] = {}
    for core in os.sched_getaffinity(0):
        for index in (CACHE_FOLDER / f"cpu{core}" / "cache").glob("index*"):
            if (index / "type").read_text().strip() == "Instruction":
                continue
            level = int((index / "level").read_text())
            size_kib = int((index / "size").read_text().strip().removesuffix("K"))  # the kernel's only unit here
            found[level, (index / "shared_cpu_list").read_text()] = size_kib << 10
    last_level = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last_level)
