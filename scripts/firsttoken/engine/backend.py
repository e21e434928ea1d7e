"""What differs between a CPU and a CUDA device, behind one interface: steps, streams, memory, token ring, clock.

Nothing else in the runtime asks which device it is on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from firsttoken.engine.clock import EventClock, HostClock, StepClock
from firsttoken.engine.graphs import CudaCapture, EagerStep, StepGraph
from firsttoken.engine.token_ring import RING_SLOTS, DirectTokens, PinnedRing, TokenRing
from firsttoken.results import MemoryReport


class Backend(Protocol):
    """One device."""

    device: torch.device

    @property
    def shared_graph_bytes(self) -> int:
        """Device memory that all graphs share."""

    def stream(self) -> AbstractContextManager[Any]:
        """The engine's stream is current within."""

    def make_step(self, live: Callable[[], None], warm_up: Callable[[], None] | None) -> StepGraph:
        """A graph where there are graphs; called on the capture thread. `warm_up` is the step on scratch buffers;
        None for a step that this process has run already."""

    def ring(self, token: torch.Tensor) -> TokenRing: ...

    def clock(self, steps: int) -> StepClock: ...

    def synchronize(self) -> None:
        """Wait for what the engine's stream has been given."""

    def settle(self) -> None:
        """Wait for everything on the device, between the parts of the set-up, when nothing is captured."""

    def start_peaks(self) -> None: ...

    def memory(self, graph_bytes: int) -> MemoryReport: ...

    def close(self) -> None: ...


class CpuBackend:
    """Steps run eagerly."""

    shared_graph_bytes = 0

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def stream(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def make_step(self, live: Callable[[], None], warm_up: Callable[[], None] | None) -> StepGraph:
        return EagerStep(live)

    def ring(self, token: torch.Tensor) -> TokenRing:
        return DirectTokens(token)

    def clock(self, steps: int) -> StepClock:
        return HostClock(steps)

    def synchronize(self) -> None:
        """Nothing runs behind the host's back."""

    def settle(self) -> None:
        """Nothing runs behind the host's back."""

    def start_peaks(self) -> None:
        """No allocator statistics on a CPU."""

    def memory(self, graph_bytes: int) -> MemoryReport:
        return MemoryReport()

    def close(self) -> None:
        """Nothing is held."""


class CudaBackend:
    """Steps become CUDA graphs; the engine has a stream of its own."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self.device, priority=-1)  # before warm-ups of captures, which have 0
        self._dtype = dtype
        self._capture: CudaCapture | None = None

    def stream(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)

    @property
    def shared_graph_bytes(self) -> int:
        return 0 if self._capture is None else self._capture.shared_bytes

    def make_step(self, live: Callable[[], None], warm_up: Callable[[], None] | None) -> StepGraph:
        if self._capture is None:  # made by the first capture, so that its streams and handles are the capture thread's
            self._capture = CudaCapture(self.device, self._dtype)
        return self._capture.capture(live, warm_up)

    def ring(self, token: torch.Tensor) -> TokenRing:
        return PinnedRing(token, torch.zeros(RING_SLOTS, dtype=torch.int64, pin_memory=True), torch.cuda.Event)

    def clock(self, steps: int) -> StepClock:
        return EventClock(steps)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def settle(self) -> None:
        torch.cuda.synchronize(self.device)

    def start_peaks(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)

    def memory(self, graph_bytes: int) -> MemoryReport:
        return MemoryReport(
            device_allocated_bytes=torch.cuda.max_memory_allocated(self.device),
            device_reserved_bytes=torch.cuda.max_memory_reserved(self.device),
            graph_bytes=graph_bytes,
        )

    def close(self) -> None:
        self._stream.synchronize()
        self._capture = None


def backend_for(device: str, dtype: torch.dtype) -> Backend:
    """The backend for `cpu` or `cuda`. Raises ValueError for `cuda` where there is none: no silent run on the CPU."""
    if device == "cpu":
        return CpuBackend()
    if not torch.cuda.is_available():
        raise ValueError(f"device: {device!r} is asked for, but torch {torch.__version__} sees no CUDA device")
    return CudaBackend(dtype)
