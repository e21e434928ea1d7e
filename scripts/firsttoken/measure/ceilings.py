"""What this device reaches: read bandwidth and matrix rate, measured with random data and the study's own library.

A ceiling is the best that any kernel reached in any sample, at any size, since no approach may be faster than the floor
that follows from it. All samples of the best kernel are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from firsttoken.collector import garbage_collector_off
from firsttoken.measure.kernel_rates import Kernel, best_of
from firsttoken.measure.latency_floor import Rates, floor, weights_fit_in_cache
from firsttoken.measure.matrix_products import CACHES_READ, library_times_ms, matrix_kernels
from firsttoken.plan import Device, ModelManifest
from firsttoken.results import Ceilings, DatasheetPeak, Floor

if TYPE_CHECKING:
    import torch

LEAST_BUFFER_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
PARTS_READ = {"cpu": (1,), "cuda": (1, 2, 4)}  # of the buffer: all, a half, a quarter
CACHE_FOLDER = Path("/sys/devices/system/cpu")


def measure_ceilings(
    manifest: ModelManifest,
    prompt_lengths: Sequence[int],
    new_tokens: int,
    dtype: str,
    device: Device,
    threads: int,
    datasheet: DatasheetPeak | None = None,
) -> Ceilings:
    """Measure the device (a few seconds) and derive the model's floors at each prompt length.

    TF32 is as the library has it by default, off. Raises RuntimeError for CUDA without a device.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("ceilings: the study's device is cuda, but torch finds no CUDA device")
    on_gpu = device == "cuda"
    cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size if on_gpu else last_level_cache_bytes()
    cached = weights_fit_in_cache(manifest, dtype, cache_bytes)
    value, layers = getattr(torch, dtype), manifest.linear_layers
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:  # with a stream that can be captured, unlike the default one
        stream = torch.cuda.stream(torch.cuda.Stream() if on_gpu else None)
        with torch.inference_mode(), garbage_collector_off(), stream:
            reads = best_of(read_kernels(device, cache_bytes, value), device)
            products = best_of(matrix_kernels(device, value, layers, prompt_lengths), device)
            library_ms = library_times_ms(layers, prompt_lengths, value, device, 0 if cached else cache_bytes)
    finally:
        torch.set_num_threads(threads_before)
    rates = Rates(max(reads.samples), max(products.samples), cache_bytes)

    def floors(int8: bool) -> tuple[Floor, ...]:
        return tuple(
            msgspec.structs.replace(
                floor(manifest, dtype, rates, length, new_tokens, int8), library_ttft_ms=time_ms if layers else None
            )
            for length, time_ms in zip(prompt_lengths, library_ms, strict=True)
        )

    return Ceilings(
        device=device,
        dtype=dtype,
        read_bandwidth_bytes_per_s=rates.read_bytes_per_s,
        read_bandwidth_kernel=reads.kernel,
        read_bandwidth_samples=reads.samples,
        matrix_flops_per_s=rates.flops_per_s,
        matrix_flops_kernel=products.kernel,
        matrix_flops_samples=products.samples,
        matrix_flops_per_s_sustained=products.sustained,
        datasheet=datasheet,
        last_level_cache_bytes=cache_bytes,
        weights_fit_in_cache=cached,
        floors=floors(False),
        floors_int8=floors(True),
    )


def read_kernels(device: Device, cache_bytes: int, dtype: torch.dtype) -> Iterator[Kernel]:
    """A sum, a largest value, a matrix-vector product, and a copy, which counts as read and written.

    On CUDA in float32 and in `dtype`, over a buffer of several caches and over parts of it that are as large.
    """
    import torch

    columns = 8192
    size = buffer_bytes(device, cache_bytes)
    for value in {torch.float32, dtype} if device == "cuda" else {torch.float32}:
        matrix = torch.rand(size // (value.itemsize * columns), columns, device=device, dtype=value)
        vector = torch.rand(columns, device=device, dtype=value)
        for parts in PARTS_READ[device]:
            part = matrix[: len(matrix) // parts]
            if parts > 1 and part.nbytes < CACHES_READ * cache_bytes:
                continue
            half = len(part) // 2
            calls = {
                "sum": partial(torch.sum, part),
                "amax": partial(torch.amax, part),
                "mv": partial(torch.mv, part, vector),
                "copy_": partial(part[:half].copy_, part[half : 2 * half]),
            }
            kind = f"{str(value).removeprefix('torch.')}, {part.nbytes / 2**30:.2g} GiB"
            for name, call in calls.items():
                yield Kernel(f"torch.{name}, {kind}", float(part.nbytes), call)


def buffer_bytes(device: Device, cache_bytes: int) -> int:
    """Several caches large, so that nothing of one pass is left for the next; at most a quarter of the free memory."""
    if device == "cuda":
        import torch

        free = torch.cuda.mem_get_info()[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(CACHES_READ * cache_bytes, LEAST_BUFFER_BYTES[device]), free // 4)


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
