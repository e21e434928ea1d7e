"""The capture thread: one job at a time, errors to whoever waits, background work preferably in idle gaps."""

from __future__ import annotations

import sys
import threading
from functools import partial

import pytest

from firsttoken.engine.capture_worker import SWITCH_INTERVAL_S, CaptureWorker


def test_all_jobs_run_on_one_thread_in_order() -> None:
    """Seen to fail with a thread a job: handles and workspaces would differ."""
    worker = CaptureWorker()
    seen: list[tuple[int, int]] = []
    for index in range(5):
        worker.later(partial(lambda index: seen.append((index, threading.get_ident())), index))
    assert worker.run(threading.get_ident) != threading.get_ident()
    worker.close()
    assert [index for index, _ in seen] == list(range(5))
    assert len({thread for _, thread in seen}) == 1


def test_an_error_reaches_the_caller_and_the_thread_lives_on() -> None:
    """Else the caller would wait for ever."""
    worker = CaptureWorker()
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 // 0)
    assert worker.run(lambda: 7) == 7
    worker.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        worker.run(lambda: 7)


def test_background_work_waits_for_an_idle_engine() -> None:
    """Seen to fail without the wait."""
    worker = CaptureWorker(patience_s=30)
    done = threading.Event()
    worker.engine_busy()
    worker.later(done.set)
    assert not done.wait(0.05)
    worker.engine_idle()
    assert done.wait(10)
    assert worker.drain(10)
    worker.close()


def test_background_work_runs_beside_an_engine_that_is_never_idle() -> None:
    """Seen to fail with a wait without an end. Meanwhile the interpreter switches threads often, and afterwards as
    before."""
    before_s = sys.getswitchinterval()
    worker = CaptureWorker(patience_s=0.01)
    worker.engine_busy()
    intervals_s: list[float] = []
    worker.later(lambda: intervals_s.append(sys.getswitchinterval()))
    assert worker.drain(10)
    worker.close()
    worker.close()
    assert intervals_s[0] <= SWITCH_INTERVAL_S * 1.01
    assert sys.getswitchinterval() == before_s
