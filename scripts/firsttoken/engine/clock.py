"""When each step began and ended, read after the request: by the host's clock on a CPU, by events on a CUDA device."""

from __future__ import annotations

import time
from array import array
from typing import Protocol

import torch


class StepClock(Protocol):
    """Marks three moments of each step and gives the two spans between them after the request."""

    def mark(self, index: int, moment: int) -> None:
        """Moment 0 is before the step, 1 after it, 2 after the dynamic operations."""

    def spans_ns(self, index: int) -> tuple[int, int]:
        """(step, dynamic operations) of step `index`; call when the request has ended."""

    def step_ns(self, index: int) -> int:
        """The first of the two, where the third moment was not marked."""


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
