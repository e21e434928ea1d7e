"""One step of a model, ready to run again and again: as a CUDA graph, or eagerly where there is no CUDA or none is
wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import torch

REHEARSALS = 1  # loads kernels and lets libraries choose; more would only take the device from the engine for longer


class StepGraph(Protocol):
    """A step bound to its buffers."""

    bytes: int  # device memory that came with it

    def replay(self) -> None:
        """Run the step on the current stream."""

    def close(self) -> None:
        """Give back what it holds; idempotent. The caller makes sure that no replay is in flight."""


class EagerStep:
    """The step as Python runs it."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step: Callable[[], None] | None = step
        self.bytes = 0

    def replay(self) -> None:
        if self._step is None:
            raise RuntimeError("replay of a step that was closed")
        self._step()

    def close(self) -> None:
        self._step = None


class CudaStepGraph:
    """A captured step."""

    def __init__(self, graph: torch.cuda.CUDAGraph, held_bytes: int, step: Callable[[], None]) -> None:
        self._graph: torch.cuda.CUDAGraph | None = graph
        self._step: Callable[[], None] | None = step  # keeps alive what the graph reads, such as a prefill's mask
        self.replay = graph.replay  # bound once: nothing between the engine's loop and the launch
        self.bytes = held_bytes

    def close(self) -> None:
        if self._graph is not None:
            self._graph.reset()
            self._graph = self._step = None
            self.replay = _closed


def _closed() -> None:
    raise RuntimeError("replay of a graph that was closed")


class CudaCapture:
    """Captures steps beside live work. All calls come from one thread, which stays alive as long as its graphs are
    used.

    Two streams. Steps are rehearsed on one and captured on the other: a library's workspace belongs to thread and
    stream, its address goes into the graphs, and a rehearsal on the capture stream would write to it while the engine
    replays. The capture stream's workspaces are made once, before any capture, so that they lie outside the graphs'
    memory pool and no graph's end takes them from the others.

    All graphs share one pool of device memory. That is sound because replays never overlap (the engine has one stream)
    and nothing in the pool outlives a replay (steps leave their results in buffers made before). A graph that leaves
    gives its part of the pool to the next capture, so memory stays flat and no cudaFree, which waits for the whole
    device, is needed.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        torch.cuda.set_device(device)  # of this thread
        self._device = device
        self._rehearsal_stream = torch.cuda.Stream(device)
        self._capture_stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._failed: list[torch.cuda.CUDAGraph] = []
        for stream in (self._rehearsal_stream, self._capture_stream):
            _warm_libraries(device, dtype, stream)
        # One empty-handed graph keeps the pool's memory from ever being released while this object lives.
        self._anchor = self.capture(*(_touch(device),) * 2)

    def capture(
        self,
        live: Callable[[], None],
        rehearsal: Callable[[], None],
        generators: Sequence[torch.Generator] = (),
    ) -> CudaStepGraph:
        """Record `live` after rehearsing it on scratch buffers; nothing that `live` works on changes.

        `generators` are those that `live` draws from. Raises what the capture raised; the process can go on, and so can
        captures.
        """
        torch.cuda.current_stream(self._device).synchronize()  # what the caller has just made for the steps, e.g. masks
        with torch.inference_mode():
            with torch.cuda.stream(self._rehearsal_stream):
                for _ in range(REHEARSALS):
                    rehearsal()
            self._rehearsal_stream.synchronize()  # this stream alone: the device may be busy with the engine's
            free_before, _ = torch.cuda.mem_get_info(self._device)
            graph = torch.cuda.CUDAGraph()
            for generator in generators:
                graph.register_generator_state(generator)
            with torch.cuda.stream(self._capture_stream):
                self._record(graph, live)
        free_after, _ = torch.cuda.mem_get_info(self._device)
        return CudaStepGraph(graph, max(free_before - free_after, 0), live)

    def _record(self, graph: torch.cuda.CUDAGraph, live: Callable[[], None]) -> None:
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            live()
        except BaseException:
            self._abandon(graph)
            raise
        try:
            graph.capture_end()
        except BaseException:
            self._discard(graph)
            raise

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a capture whose step raised, so that the stream is usable again; the step's own error is the one to
        report."""
        try:
            graph.capture_end()
        except RuntimeError:
            self._discard(graph)
        else:
            graph.reset()

    def _discard(self, graph: torch.cuda.CUDAGraph) -> None:
        """After a capture that CUDA declared invalid.

        `capture_end` has then raised before it took back the allocator's redirection, which refers to the graph object
        (CUDAGraph.cpp): take it back here, and keep the object.
        """
        self._failed.append(graph)
        with suppress(RuntimeError):  # "not currently recording": this torch has taken it back itself
            torch._C._cuda_endAllocateToPool(self._device.index, self._pool)
            torch._C._cuda_releasePool(self._device.index, self._pool)


def _warm_libraries(device: torch.device, dtype: torch.dtype, stream: torch.cuda.Stream) -> None:
    """Make this thread's cuBLAS handles and the workspaces for `stream`, outside any graph's pool."""
    with torch.inference_mode(), torch.cuda.stream(stream):
        weight = torch.zeros(256, 256, dtype=dtype, device=device)
        bias = torch.zeros(256, dtype=dtype, device=device)
        for rows in (1, 16):
            left = torch.zeros(rows, 256, dtype=dtype, device=device)
            torch.mm(left, weight)
            torch.addmm(bias, left, weight)
            torch.bmm(left[None], weight[None])
    stream.synchronize()


def _touch(device: torch.device) -> Callable[[], None]:
    """The smallest step: one kernel, no memory."""
    cell = torch.zeros(1, device=device)

    def step() -> None:
        cell.add_(1)

    return step
