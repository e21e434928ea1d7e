"""Which tiles make a decode step fastest here, product by product: timed once, kept for later processes.

Each candidate is timed in the whole step: what a kernel leaves of the device to the one before it and the one behind
it, which run beside it at their ends, is a part of what it costs.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import triton

from firsttoken.compiled.tiles import Linear, TileConfig, candidates
from firsttoken.files import write_text

FILE = "triton_tuning.json"
REPLAYS = 5
INTERPRETED = TileConfig(rows=16, warps=4, programs=1)


class Tuner:
    """Times candidates in the step that they are for, captured; in Triton's interpreter there is nothing to time.

    `folder`: where results are kept ("" for nowhere). Raises ValueError for a file there that does not hold them.
    """

    def __init__(self, folder: str) -> None:
        self._file = Path(folder) / FILE if folder else None
        self._known: dict[str, TileConfig] = {}
        self.timed: list[str] = []  # keys of the products that this process has timed
        if self._file is not None and self._file.is_file():
            try:
                rows = json.loads(self._file.read_text())
                self._known = {key: TileConfig(**row) for key, row in rows.items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{self._file}: not a table of tuned kernels ({error}); delete the file") from error

    def choose(self, linear: Linear, step_with: Callable[[TileConfig], Callable[[], None]]) -> TileConfig:
        """The configuration of `linear` with which the step that `step_with` returns is fastest."""
        device = linear.weight.device
        if device.type != "cuda":
            return INTERPRETED
        versions = f"torch {torch.__version__} | triton {triton.__version__}"
        key = f"{linear.key()} | {torch.cuda.get_device_name(device)} | {versions}"
        if key not in self._known:
            self._known[key] = min(candidates(linear), key=lambda config: graph_seconds(step_with(config)))
            self.timed.append(key)
            self._keep()
        return self._known[key]

    def _keep(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._file, json.dumps({key: asdict(config) for key, config in self._known.items()}, indent=1))


def graph_seconds(launch: Callable[[], None], replays: int = REPLAYS) -> float:
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
        for _ in range(replays):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
    torch.cuda.current_stream().wait_stream(stream)
    graph.reset()
    return float(statistics.median(times))
