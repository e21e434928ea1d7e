"""Python's garbage collector, off in every process that computes: a collection within a request is a stall of many
milliseconds, and approaches with one and with two processes must not differ in it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_collector_off() -> Iterator[None]:
    """Collect once, then keep the collector from running and what exists out of its sight; restored on the way out."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
