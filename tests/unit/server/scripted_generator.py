"""A generator process with an engine whose behaviour the spec's `model_dir` names; run as a script by the tests."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from firsttoken import process
from firsttoken.engine.base import EngineSpec, never
from firsttoken.engine.capture_worker import CaptureWorker
from firsttoken.plan import Unsupported
from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming
from firsttoken.server import server as server_module

FAILING_THREADS = {20: "ft-clients", 21: "ft-engine", 22: "ft-owner", 23: "capture_0"}  # by the prompt that asks


def fail_in_thread(name: str) -> None:
    """Make one of the generator's threads raise soon."""
    unset: Any = None
    if name == "ft-clients":
        server_module.SERVICE_INTERVAL_S = unset
    elif name == "ft-engine":
        server_module.poll_for = unset  # type: ignore[attr-defined]
    elif name == "ft-owner":
        process.STOP_GRACE_S = unset
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        CaptureWorker().later(unset)


class CountingEngine:
    """Token i of a request is `prompt_ids[0] + i`; `paced` takes 5 ms a token."""

    def __init__(self, spec: EngineSpec) -> None:
        self.setup = SetupTimes(imports_s=1.0, load_s=2.0)
        self._stubborn = spec.model_dir.endswith("stubborn")
        self._paced = spec.model_dir.endswith("paced")

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        emit: Callable[[int], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        if prompt_ids[0] == 13:
            raise ZeroDivisionError("first line\nsecond line")
        if prompt_ids[0] == 14:
            raise ValueError("prompt 14 is too long")
        if prompt_ids[0] in FAILING_THREADS:
            fail_in_thread(FAILING_THREADS[prompt_ids[0]])
        self._rows = [TokenTiming(launch_ns=i, pool_hit=True) for i in range(max_new_tokens)]
        for index in range(max_new_tokens - (prompt_ids[0] == 15)):
            if cancelled():
                return
            if self._paced:
                time.sleep(0.005)
            emit(prompt_ids[0] + index)

    def timings(self) -> Sequence[TokenTiming]:
        return self._rows

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        path.write_text(f"{list(prompt_ids)} {list(continuation_ids)}")
        return True

    def memory(self) -> MemoryReport:
        return MemoryReport(graph_bytes=7)

    def counters(self) -> dict[str, float]:
        return {
            "switch_interval_s": sys.getswitchinterval(),
            "frozen": float(gc.get_freeze_count()),
            "collecting": float(gc.isenabled()),
        }

    def facts(self) -> Facts:
        return Facts(attention="sdpa")

    def capturing(self) -> bool:
        return False

    def close(self) -> None:
        if self._stubborn:
            time.sleep(1000)
        print("engine closed", file=sys.stderr, flush=True)


def build(spec: EngineSpec) -> CountingEngine:
    behaviour = Path(spec.model_dir).name
    print(f"loading {behaviour}", file=sys.stderr, flush=True)
    print("a library's word on stdout", flush=True)
    if behaviour == "unsupported":
        raise Unsupported("no static cache for this model")
    if behaviour == "broken":
        raise RuntimeError("weights are missing")
    if behaviour == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if behaviour == "crashing":
        os._exit(3)
    if behaviour == "faulty":
        os.abort()
    if behaviour == "endless":  # a load that no one can interrupt, with a child of its own
        child = subprocess.Popen(["sleep", "1000"])
        print(f"child {child.pid}", file=sys.stderr, flush=True)
        time.sleep(1000)
    if behaviour == "paced":
        server_module.HEARTBEAT_S = 0.05  # so that a busy machine does not look like silence in the tests
    if behaviour == "stubborn":  # does not close; a second is enough to see that the kernel's alarm ends it
        process.STOP_GRACE_S = 1
    return CountingEngine(spec)


if __name__ == "__main__":
    server_module.main(build)
