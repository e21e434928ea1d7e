"""One step of a model, ready to run again and again: as a CUDA graph, or eagerly where there is no CUDA or none is
wanted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch


class StepGraph(Protocol):
    """A step bound to its buffers."""

    bytes: int  # device memory that is its own: beside what all graphs share

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

    def __init__(self, graph: torch.cuda.CUDAGraph, own_bytes: int, step: Callable[[], None]) -> None:
        self._graph: torch.cuda.CUDAGraph | None = graph
        self._step: Callable[[], None] | None = step  # keeps alive what the graph reads, such as a prefill's mask
        self.replay = graph.replay  # bound once: nothing between the engine's loop and the launch
        self.bytes = own_bytes

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

    Two streams. Steps run for warm-up on one and are captured on the other: a library's workspace belongs to thread and
    stream, its address goes into the graphs, and a warm-up on the capture stream would write to it while the engine
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
        self._warm_up_stream = torch.cuda.Stream(device)
        self._capture_stream = torch.cuda.Stream(device)
        self._pool: Any = None
        self.shared_bytes = 0  # of device memory in the pool, as the allocator has it; it never shrinks
        self._anchors: list[torch.cuda.CUDAGraph] = []
        self._failed: list[torch.cuda.CUDAGraph] = []
        for stream in (self._warm_up_stream, self._capture_stream):
            _warm_libraries(device, dtype, stream)

    def capture(self, live: Callable[[], None], warm_up: Callable[[], None] | None) -> CudaStepGraph:
        """Record `live` after a warm-up on scratch buffers; nothing that `live` works on changes.

        `warm_up` None: this process has run the step already, so that its kernels are loaded, and a warm-up would
        only take the device from the engine. Raises what the capture raised; the process and later captures can go on.
        """
        torch.cuda.current_stream(self._device).synchronize()  # what the caller has just made for the steps, e.g. masks
        with torch.inference_mode():
            if warm_up is not None:
                with torch.cuda.stream(self._warm_up_stream):
                    warm_up()
                self._warm_up_stream.synchronize()  # this stream alone: the device may be busy with the engine's
            before_bytes = self._driver_bytes()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(self._capture_stream):
                self._record(graph, live, self._living_pool())
        own_bytes = max(self._driver_bytes() - before_bytes, 0)
        segments = torch.cuda.memory_snapshot(self._pool, include_traces=False)
        self.shared_bytes = sum(segment["total_size"] for segment in segments)
        return CudaStepGraph(graph, own_bytes, live)

    def _driver_bytes(self) -> int:
        """Device memory in use that is not the allocator's: contexts, kernels, and what the driver keeps of graphs."""
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free - torch.cuda.memory_reserved(self._device)

    def _living_pool(self) -> Any:
        """The pool of all graphs, another one after a capture that failed in the former.

        A graph of one kernel stays in it for ever: the allocator takes no more captures into a pool once all of its
        graphs have gone.
        """
        if self._pool is None:
            pool, anchor = torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
            self._record(anchor, _touch(self._device), pool)
            self._anchors.append(anchor)
            self._pool = pool
        return self._pool

    def _record(self, graph: torch.cuda.CUDAGraph, live: Callable[[], None], pool: Any) -> None:
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            live()
        except BaseException:
            self._abandon(graph, pool)
            raise
        try:
            graph.capture_end()
        except BaseException:
            self._discard(graph, pool)
            raise

    def _abandon(self, graph: torch.cuda.CUDAGraph, pool: Any) -> None:
        """End a capture whose step raised, so that the stream is usable again; its own error is the one to report."""
        try:
            graph.capture_end()
        except RuntimeError:
            self._discard(graph, pool)
        else:
            graph.reset()

    def _discard(self, graph: torch.cuda.CUDAGraph, pool: Any) -> None:
        """After a capture that CUDA declared invalid.

        `capture_end` has then raised before it took back the allocator's redirection, which refers to the graph object
        (CUDAGraph.cpp): take it back here, keep the object, and leave that pool to the graphs that it has.
        """
        self._failed.append(graph)
        self._pool = None
        with suppress(RuntimeError):  # "not currently recording": this torch has taken it back itself
            torch._C._cuda_endAllocateToPool(self._device.index, pool)
            torch._C._cuda_releasePool(self._device.index, pool)


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
