"""A bounded set of captured prefill graphs by prompt length; the least recently used leaves.

It knows only a function that captures and one that has work done later. A miss is answered at once (the caller runs
eagerly) and asks for a capture. A graph in use is leased and never evicted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from firsttoken.engine.graphs import StepGraph


class RollingGraphPool:
    """Prompt length (or bucket) to graph. Lookups and captures may come from different threads."""

    def __init__(
        self,
        capture: Callable[[int], StepGraph],
        later: Callable[[Callable[[], object]], None],
        capacity: int,
        max_bytes: int = 0,
        rolling: bool = True,
        shared_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """`capture(key)` makes a graph or raises; `later(job)` runs a job on the capture thread; `max_bytes` 0 is no
        limit; `shared_bytes()` is what the graphs hold together, beside each one's own. It never shrinks, so that where
        it alone is above `max_bytes` only the newest graph is kept."""
        if capacity < 1:
            raise ValueError(f"pool_capacity: {capacity} is less than 1")
        self._capture, self._later = capture, later
        self._capacity, self._max_bytes, self._rolling = capacity, max_bytes, rolling
        self._shared_bytes = shared_bytes
        self._graphs: OrderedDict[int, StepGraph] = OrderedDict()
        self._leases: dict[int, int] = {}
        self._asked: set[int] = set()
        self.failures: dict[int, str] = {}  # by key, and not tried again
        self._lock = threading.Lock()
        self._closed = False
        self.hits = self.misses = self.captures = self.evictions = self.failed_captures = 0

    @property
    def keys(self) -> tuple[int, ...]:
        """Held now, least recently used first."""
        with self._lock:
            return tuple(self._graphs)

    @property
    def capturing(self) -> bool:
        """Whether a capture runs or waits."""
        return bool(self._asked)

    @property
    def bytes(self) -> int:
        """Held by the graphs, as each was measured at its capture, and by what they share."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return self._shared_bytes() + sum(graph.bytes for graph in self._graphs.values())

    def acquire(self, key: int) -> StepGraph | None:
        """The graph for `key`, leased until `release(key)`; None on a miss, which asks for a capture."""
        with self._lock:
            graph = self._graphs.get(key)
            if graph is not None:
                self.hits += 1
                self._graphs.move_to_end(key)
                self._leases[key] = self._leases.get(key, 0) + 1
                return graph
            self.misses += 1
            if self._closed or key in self._asked or key in self.failures:
                return None
            self._asked.add(key)
        self._later(lambda: self.fill(key))
        return None

    def release(self, key: int) -> None:
        """End a lease: no replay of that graph is in flight any more."""
        with self._lock:
            left = self._leases.get(key, 0) - 1
            if left < 0:
                raise RuntimeError(f"graph {key} released more often than acquired")
            if left:
                self._leases[key] = left
                return
            del self._leases[key]
            leaving = self._overflow(newest=None)
        _close_all(leaving)

    def fill(self, key: int, raises: Callable[[Exception], bool] = lambda error: False) -> bool:
        """Capture `key` now, on this thread, and make room. A failure is counted and noted, and the pool goes on, but
        where `raises` says so of it."""
        with self._lock:
            self._asked.add(key)
            if self._closed or key in self._graphs:
                self._asked.discard(key)
                return key in self._graphs
        try:
            graph = self._capture(key)
        except Exception as error:  # whatever stopped it, the request is served eagerly; the reason is kept and counted
            with self._lock:
                self._note_failure(key, f"{type(error).__name__}: {error}")
            if raises(error):
                raise
            return False
        with self._lock:
            self._asked.discard(key)
            held = not self._closed and not self._too_large(key, graph)
            leaving = [graph]
            if held:
                self.captures += 1
                self._graphs[key] = graph
                leaving = self._overflow(newest=key)
        _close_all(leaving)
        return held

    def _too_large(self, key: int, graph: StepGraph) -> bool:
        if not self._rolling or not self._max_bytes or graph.bytes <= self._max_bytes:
            return False
        self._note_failure(key, f"needs {graph.bytes} bytes, more than pool_max_bytes {self._max_bytes}")
        return True

    def _note_failure(self, key: int, reason: str) -> None:
        self._asked.discard(key)
        self.failed_captures += 1
        self.failures[key] = reason

    def _overflow(self, newest: int | None) -> list[StepGraph]:
        """Take out the least recently used graphs until both bounds hold; the caller frees them.

        Leased ones stay until they are released, and so does the newest, else it might never come to be used.
        """
        leaving: list[StepGraph] = []
        if not self._rolling:
            return leaving
        for key in list(self._graphs):
            full = len(self._graphs) > self._capacity
            if not full and not (self._max_bytes and self._bytes() > self._max_bytes):
                break
            if key not in self._leases and key != newest:
                leaving.append(self._graphs.pop(key))
                self.evictions += 1
        return leaving

    def close(self) -> None:
        """Free all graphs; idempotent. No replay may be in flight."""
        with self._lock:
            self._closed = True
            leaving = list(self._graphs.values())
            self._graphs.clear()
            self._leases.clear()
        _close_all(leaving)


def _close_all(graphs: list[StepGraph]) -> None:
    for graph in graphs:
        graph.close()
