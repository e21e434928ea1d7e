"""How chosen tokens reach the host: at once on a CPU, through pinned memory from a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

RING_SLOTS = 8


class TokenRing(Protocol):
    """Brings tokens to the host."""

    asynchronous: bool  # further steps may be queued before a token is read

    def send(self, index: int) -> None:
        """Hand over the token that the last step chose as number `index` of the request."""

    def receive(self, index: int) -> int:
        """Wait for token `index` and return it."""

    def discard(self) -> None:
        """Forget what was sent and not received: the request was cancelled."""


class DirectTokens:
    """On a CPU a step's token is there when the step returns."""

    asynchronous = False

    def __init__(self, token: torch.Tensor) -> None:
        self._token: np.ndarray = token.numpy()

    def send(self, index: int) -> None:
        """Nothing to bring over."""

    def receive(self, index: int) -> int:
        return int(self._token[0, 0])

    def discard(self) -> None:
        """Nothing is on its way."""


class PinnedRing:
    """Tokens copied to pinned host memory behind each step, with an event each."""

    asynchronous = True

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
