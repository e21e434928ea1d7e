"""Polling before blocking: a thread that sleeps wakes tens of microseconds late, on some hosts hundreds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from firsttoken.plan import Plan

Events = list[tuple[int, int]]  # descriptors and what happened to them, as epoll gives them


def usable_spin_us(plan: Plan) -> int:
    """`plan.spin_us`; 0 where polling would take a core from the other process or from the threads of a CPU model."""
    needed = max(2, plan.threads if plan.device == "cpu" else 0)
    return plan.spin_us if len(os.sched_getaffinity(0)) > needed else 0


def poll_for(poll: Callable[[float], Events], spin_us: int) -> Events:
    """What `poll(0)` gives within `spin_us`, [] where nothing came.

    `poll` is of an epoll: 0.4 us a look, where a receive with MSG_DONTWAIT takes 1.8 us, most of it for its exception.
    """
    now = time.perf_counter_ns
    until_ns = now() + 1000 * spin_us
    while not (events := poll(0)) and now() < until_ns:
        os.sched_yield()  # the other side may need this very core
    return events
