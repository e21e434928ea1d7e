"""Matrix products by torch.mm in every library and layout that torch offers, and what a model's own products take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from firsttoken.measure.kernel_rates import Kernel, blas_library, seconds
from firsttoken.plan import Device, LinearLayer

if TYPE_CHECKING:
    import torch

LIBRARIES = {"cpu": ("",), "cuda": ("cublas", "cublaslt")}
LAYOUTS = ("NN", "NT", "TN")  # row-major; T: stored transposed. NT is what a linear layer computes
SQUARES = {"cpu": (128, 256, 512, 1024), "cuda": (2048, 4096, 8192)}  # a CPU may do small ones in its cache fastest
ROWS = {"cpu": (128, 512), "cuda": (128, 256, 384, 512, 1024, 2048)}
LEAST_ROWS = 128  # shorter prompts are bound by reading
SAMPLES = 3
CACHES_READ = 8  # weights are at least this many times the last-level cache


def matrix_kernels(
    device: Device, dtype: torch.dtype, layers: Sequence[LinearLayer], prompt_lengths: Sequence[int]
) -> Iterator[Kernel]:
    """Square products, and those of the model's layers at several prompt lengths, with random data.

    Products accumulate in float32, as those of all approaches do. None is larger than the largest square.
    """
    import torch

    squares = [(size, size, size) for size in SQUARES[device]]
    rows = sorted({*ROWS[device], *(length for length in prompt_lengths if length >= LEAST_ROWS)})
    own = {(count, layer.outputs, layer.inputs) for layer in layers for count in rows}
    for m, n, k in [*squares, *sorted(shape for shape in own if math.prod(shape) <= math.prod(squares[-1]))]:
        left, right = (torch.randn(size, device=device, dtype=dtype) for size in (m * k, k * n))
        out = torch.empty(m, n, device=device, dtype=dtype)
        for library in LIBRARIES[device]:
            for layout in LAYOUTS:
                name = ", ".join(filter(None, ("torch.mm", library, layout, f"{m} x {n} x {k}")))
                yield Kernel(name, 2.0 * m * n * k, product(layout, left, right, out), library)


def product(layout: str, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> Callable[[], object]:
    """A product into `out` `[m, n]` of the values `left` (m * k) and `right` (k * n), stored as `layout` says."""
    import torch

    m, n = out.shape
    k = left.numel() // m
    a = left.view(m, k) if layout[0] == "N" else left.view(k, m).t()
    b = right.view(k, n) if layout[1] == "N" else right.view(n, k).t()
    return partial(torch.mm, a, b, out=out)


def library_times_ms(
    layers: Sequence[LinearLayer], prompt_lengths: Sequence[int], dtype: torch.dtype, device: Device, cache_bytes: int
) -> list[float]:
    """For each prompt length, what the library takes for the products of one forward pass.

    It is the sum over the model's shapes. Each takes the median time of the fastest library and layout. On CUDA the
    products of a shape are one graph, so that no launch counts. Their weights are several caches large; `cache_bytes`
    is 0 where the model's weights fit into the cache: then each layer has its own weights.
    """
    times_ms = [0.0] * len(prompt_lengths)
    for layer in layers:
        weights = list(_weights(layer, dtype, device, cache_bytes))
        for place, length in enumerate(prompt_lengths):
            times_ms[place] += _layer_ms(layer, 1 if layer.head else length, weights, device)
    return times_ms


def _weights(layer: LinearLayer, dtype: torch.dtype, device: Device, cache_bytes: int) -> Iterator[torch.Tensor]:
    import torch

    values = layer.inputs * layer.outputs
    copies = math.ceil(CACHES_READ * cache_bytes / (values * dtype.itemsize)) if cache_bytes else layer.count
    for _ in range(copies):
        yield torch.randn(values, device=device, dtype=dtype)


def _layer_ms(layer: LinearLayer, rows: int, weights: Sequence[torch.Tensor], device: Device) -> float:
    """All products of the layers of one shape, by the fastest library and layout."""
    import torch

    like = weights[0]
    left = torch.randn(rows * layer.inputs, device=device, dtype=like.dtype)
    out = torch.empty(rows, layer.outputs, device=device, dtype=like.dtype)
    products = max(layer.count, len(weights))
    best_s = math.inf
    for library in LIBRARIES[device]:
        for layout in LAYOUTS:
            calls = [product(layout, left, weights[place % len(weights)], out) for place in range(products)]
            with blas_library(library):
                run = _run_all(calls, device)
            best_s = min(best_s, median(seconds(run, 1, device) for _ in range(SAMPLES)))
    return 1e3 * best_s * layer.count / products


def _run_all(calls: Sequence[Callable[[], object]], device: Device) -> Callable[[], object]:
    """All calls as one, after they have run once; on CUDA a graph of them, which the default stream cannot capture."""

    def run() -> None:
        for call in calls:
            call()

    run()
    if device == "cpu":
        return run
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):  # where the library has its workspace already
        run()
    return graph.replay
