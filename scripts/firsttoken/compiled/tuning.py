"""Which tiles are fastest for each product of a decode step here: timed once, kept for later processes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import triton

from firsttoken.compiled.decode import linear_row
from firsttoken.compiled.tiles import Linear, TileConfig, candidates

FILE = "triton_tuning.json"
LAUNCHES = 16  # at least so many products in one timed graph
REPLAYS = 5
INTERPRETED = TileConfig(rows=16, warps=4, programs=1)


class Tuner:
    """Times candidates in CUDA graphs, as they will run; in Triton's interpreter there is nothing to time.

    `folder`: where results are kept ("" for nowhere); `dtype`: of the activations. Raises ValueError for a file there
    that does not hold them.
    """

    def __init__(self, folder: str, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._file = Path(folder) / FILE if folder else None
        self._known: dict[str, TileConfig] = {}
        self.timed: list[str] = []  # keys of the products that this process has timed
        if self._file is not None and self._file.is_file():
            try:
                rows = json.loads(self._file.read_text())
                self._known = {key: TileConfig(**row) for key, row in rows.items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{self._file}: not a table of tuned kernels ({error}); delete the file") from error

    def choose(self, products: list[Linear]) -> TileConfig:
        """The fastest configuration for products of one key, usually one of each layer."""
        first = products[0]
        device = first.weight.device
        if device.type != "cuda":
            return INTERPRETED
        versions = f"torch {torch.__version__} | triton {triton.__version__}"
        key = f"{first.key()} | {torch.cuda.get_device_name(device)} | {versions}"
        if key not in self._known:
            self._known[key] = min(candidates(first), key=lambda config: product_seconds(products, self._dtype, config))
            self.timed.append(key)
            self._keep()
        return self._known[key]

    def _keep(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps({key: asdict(config) for key, config in self._known.items()}, indent=1))
        part.replace(self._file)


def product_seconds(products: list[Linear], dtype: torch.dtype, config: TileConfig) -> float:
    """Median device time of one product, in a row of such products over different weights, captured and replayed."""
    first = products[0]
    device = first.weight.device
    x, out = (torch.randn(1, width, device=device).to(dtype) for width in (first.in_features, first.out_features))
    residual = torch.randn(1, first.out_features, device=device).to(dtype) if first.residual else None
    rounds = -(-LAUNCHES // len(products))

    def launch() -> None:
        for product in products * rounds:
            linear_row(product, x, config, residual, out)

    return _graph_seconds(launch) / (rounds * len(products))


def _graph_seconds(launch: Callable[[], None]) -> float:
    """Median device time of `launch`, captured and replayed; one call before that, which compiles."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        launch()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            launch()
        finally:
            graph.capture_end()
        graph.replay()
        times: list[float] = []
        for _ in range(REPLAYS):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
    torch.cuda.current_stream().wait_stream(stream)
    graph.reset()
    return float(statistics.median(times))
