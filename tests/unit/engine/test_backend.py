"""The token ring's bookkeeping, with events that a test controls, and which device there is."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fakes.tape_graph import LateEvent  # noqa: E402
from firsttoken.engine.backend import backend_for  # noqa: E402
from firsttoken.engine.token_ring import RING_SLOTS, PinnedRing  # noqa: E402


def make_ring() -> tuple[Any, PinnedRing]:
    token, host = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(RING_SLOTS, dtype=torch.int64)
    return token, PinnedRing(token, host, lambda: LateEvent(host))


def test_a_token_is_read_after_its_event_only() -> None:
    """Trap 9. Seen to fail without the wait in `receive`: -1 is what stood there."""
    token, ring = make_ring()
    for index in range(3 * RING_SLOTS):
        token.fill_(100 + index)
        ring.send(index)
        assert ring.receive(index) == 100 + index


def test_a_slot_is_not_written_before_it_was_read() -> None:
    """Trap 9. Seen to fail without the check in `send`."""
    _, ring = make_ring()
    for index in range(RING_SLOTS):
        ring.send(index)
    with pytest.raises(RuntimeError, match=f"token {RING_SLOTS} would overwrite token 0"):
        ring.send(RING_SLOTS)


def test_what_was_sent_beyond_a_cancellation_is_never_read() -> None:
    """Trap 9. Seen to fail with a `discard` that does nothing."""
    token, ring = make_ring()
    ring.send(0)
    ring.send(1)
    assert ring.receive(0) == 0
    ring.discard()
    with pytest.raises(RuntimeError, match="not in the ring"):
        ring.receive(1)
    token.fill_(5)
    ring.send(0)
    assert ring.receive(0) == 5


def test_cuda_without_cuda_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ValueError, match="sees no CUDA device"):
        backend_for("cuda", torch.float16)
