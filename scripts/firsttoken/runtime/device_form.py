"""What differs between a CPU and a CUDA device, behind one interface: steps, token hand-over, clocks, memory.

Nothing else in the runtime asks which device it is on.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch

from firsttoken.records import MemoryReport
from firsttoken.runtime.step_graph import CudaCapture, EagerStep, StepGraph

RING_SLOTS = 8


class TokenRing(Protocol):
    """Brings tokens to the host."""

    lag: int  # how many steps late a token is read while others follow

    def send(self, index: int) -> None:
        """Hand over the token that the last step chose as number `index` of the request."""

    def receive(self, index: int) -> int:
        """Wait for token `index` and return it."""

    def discard(self) -> None:
        """Forget what was sent and not received: the request was cancelled."""


class StepClock(Protocol):
    """Marks three moments of each step and gives the two spans between them after the request."""

    def mark(self, index: int, moment: int) -> None:
        """Moment 0 is before the step, 1 after it, 2 after the dynamic operations."""

    def spans_ns(self, index: int) -> tuple[int, int]:
        """(step, dynamic operations) of step `index`; call when the request has ended."""

    def step_ns(self, index: int) -> int:
        """The first of the two, where the third moment was not marked."""


class DeviceForm(Protocol):
    """One device."""

    device: torch.device
    pinned: bool

    @property
    def shared_graph_bytes(self) -> int:
        """Device memory that all graphs share."""

    def stream(self) -> AbstractContextManager[Any]:
        """The engine's stream is current within."""

    def make_step(self, live: Callable[[], None], rehearsal: Callable[[], None] | None) -> StepGraph:
        """A graph where there are graphs; called on the capture thread. `rehearsal` is the step on scratch buffers;
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


class DirectTokens:
    """On a CPU a step's token is there when the step returns."""

    lag = 0

    def __init__(self, token: torch.Tensor) -> None:
        self._token: np.ndarray = token.numpy()

    def send(self, index: int) -> None:
        """Nothing to bring over."""

    def receive(self, index: int) -> int:
        return int(self._token[0, 0])

    def discard(self) -> None:
        """Nothing is on its way."""


class HostClock:
    """perf_counter_ns at each mark: on a CPU a step is over when its call returns."""

    def __init__(self, steps: int) -> None:
        self._marks = array("q", bytes(8 * 3 * steps))

    def mark(self, index: int, moment: int) -> None:
        self._marks[3 * index + moment] = time.perf_counter_ns()

    def spans_ns(self, index: int) -> tuple[int, int]:
        start, middle, end = self._marks[3 * index : 3 * index + 3]
        return middle - start, end - middle

    def step_ns(self, index: int) -> int:
        return self._marks[3 * index + 1] - self._marks[3 * index]


class CpuForm:
    """Steps run eagerly."""

    pinned = False
    shared_graph_bytes = 0

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def stream(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def make_step(self, live: Callable[[], None], rehearsal: Callable[[], None] | None) -> StepGraph:
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


class PinnedRing:
    """Tokens copied to pinned host memory behind each step, with an event each, and read one step late."""

    lag = 1

    def __init__(self, token: torch.Tensor, host: torch.Tensor, new_event: Callable[[], Any]) -> None:
        """`token` `[1, 1]` on the device, `host` int64 `[slots]` in pinned memory, `new_event` makes a CUDA event."""
        slots = host.shape[0]
        self._source = token.view(())
        self._values: np.ndarray = host.numpy()
        self._cells = [host[i] for i in range(slots)]
        self._events = [new_event() for _ in range(slots)]
        self._slots = slots
        self._sent = self._received = 0

    def send(self, index: int) -> None:
        if index == 0:
            self._sent = self._received = 0
        if index - self._received >= self._slots:
            raise RuntimeError(f"token {index} would overwrite token {self._received}, which has not been read")
        slot = index % self._slots
        self._cells[slot].copy_(self._source, non_blocking=True)
        self._events[slot].record()
        self._sent = index + 1

    def receive(self, index: int) -> int:
        if not self._received <= index < self._sent:
            raise RuntimeError(f"token {index} is not in the ring (sent {self._sent}, received {self._received})")
        slot = index % self._slots
        self._events[slot].synchronize()
        self._received = index + 1
        return int(self._values[slot])

    def discard(self) -> None:
        if self._sent > self._received:
            self._events[(self._sent - 1) % self._slots].synchronize()
        self._received = self._sent


class EventClock:
    """CUDA events, made once; elapsed times are read after the request, when all have passed."""

    def __init__(self, steps: int) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(3 * steps)]

    def mark(self, index: int, moment: int) -> None:
        self._events[3 * index + moment].record()

    def spans_ns(self, index: int) -> tuple[int, int]:
        start, middle, end = self._events[3 * index : 3 * index + 3]
        return round(start.elapsed_time(middle) * 1e6), round(middle.elapsed_time(end) * 1e6)

    def step_ns(self, index: int) -> int:
        return int(self._events[3 * index].elapsed_time(self._events[3 * index + 1]) * 1e6)


class CudaForm:
    """Steps become CUDA graphs; the engine has a stream of its own."""

    pinned = True

    def __init__(self, dtype: torch.dtype) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self.device, priority=-1)  # before rehearsals of captures, which have 0
        self._dtype = dtype
        self._capture: CudaCapture | None = None

    def stream(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)

    @property
    def shared_graph_bytes(self) -> int:
        return 0 if self._capture is None else self._capture.shared_bytes

    def make_step(self, live: Callable[[], None], rehearsal: Callable[[], None] | None) -> StepGraph:
        if self._capture is None:  # made by the first capture, so that its streams and handles are the capture thread's
            self._capture = CudaCapture(self.device, self._dtype)
        return self._capture.capture(live, rehearsal)

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


def device_form(device: str, dtype: torch.dtype) -> DeviceForm:
    """The form for `cpu` or `cuda`. Raises ValueError for `cuda` where there is none: never a silent run on the CPU."""
    if device == "cpu":
        return CpuForm()
    if not torch.cuda.is_available():
        raise ValueError(f"device: {device!r} is asked for, but torch {torch.__version__} sees no CUDA device")
    return CudaForm(dtype)
