"""Which way of cutting each product of a decode step is fastest here: timed once, kept for later processes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from firsttoken.compiled.triton_launch import Matvec, MatvecConfig, candidates, default_config, matvec

FILE = "triton_tuning.json"
LAUNCHES = 16  # at least so many products in one timed graph
REPLAYS = 5


@dataclass(frozen=True)
class Timed:
    """A config and what a product took with it, in a row of such products over different weights."""

    config: MatvecConfig
    seconds: float
    read_bytes: int = 0  # the weight's


class Tuner:
    """Times candidates in CUDA graphs, as they will run; without CUDA it takes the default config.

    `folder`: where results are kept ("" for nowhere). Raises ValueError for a file there that does not hold them.
    """

    def __init__(self, folder: str, pdl: bool) -> None:
        self._file = Path(folder) / FILE if folder else None
        self._pdl = pdl
        self._known: dict[str, Timed] = {}
        self.timed: dict[str, list[Timed]] = {}  # what this process has timed itself, fastest first
        if self._file is not None and self._file.is_file():
            try:
                for key, row in json.loads(self._file.read_text()).items():
                    self._known[key] = Timed(MatvecConfig(**row["config"]), float(row["seconds"]))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{self._file}: not a table of tuned kernels ({error}); delete the file") from error

    def choose(self, products: list[Matvec]) -> MatvecConfig:
        """The fastest config for products of one key, usually one of each layer."""
        first = products[0]
        if not first.weight.is_cuda:
            return default_config(first)
        key = f"{first.key()} | {_machine(first.weight.device)} | pdl {self._pdl}"
        if key not in self._known:
            rows = [Timed(config, self._seconds(products, config), first.weight.nbytes) for config in candidates(first)]
            self.timed[first.key()] = sorted(rows, key=lambda timed: timed.seconds)
            self._known[key] = self.timed[first.key()][0]
            self._keep()
        return self._known[key].config

    def _seconds(self, products: list[Matvec], config: MatvecConfig) -> float:
        """Device time of one product."""
        first = products[0]
        device, dtype = first.weight.device, first.weight.dtype
        x, out = (torch.randn(width, device=device).to(dtype) for width in (first.columns, first.rows))
        residual = torch.randn(first.rows, device=device).to(dtype) if first.residual else None
        rounds = -(-LAUNCHES // len(products))

        def launch() -> None:
            for product in products * rounds:
                matvec(product, x, out, config, self._pdl, residual)

        return graph_seconds(launch) / (rounds * len(products))

    def _keep(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        rows = {key: {"config": asdict(t.config), "seconds": t.seconds} for key, t in self._known.items()}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(rows, indent=1))
        part.replace(self._file)


def graph_seconds(launch: Callable[[], None]) -> float:
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


def _machine(device: torch.device) -> str:
    import triton

    return f"{torch.cuda.get_device_name(device)} | torch {torch.__version__} | triton {triton.__version__}"
