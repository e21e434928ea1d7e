"""The sampler's handle in the measuring process: start it, tell it when requests run, stop it, get its readings."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from time import perf_counter_ns

import msgspec

from firsttoken.measure.sampler import Readings, Sample, SamplerStart
from firsttoken.plan import Device
from firsttoken.process import package_environment, tell
from firsttoken.transient import Transient

INTERVAL_S = 0.1
START_TIMEOUT_S = 60.0  # NVML takes seconds where the driver does not stay loaded
STOP_TIMEOUT_S = 10.0


class Telemetry(contextlib.AbstractContextManager["Telemetry"]):
    """Runs the sampler in its own process from construction to `stop`; a context manager, so that none is left behind.

    The first sample is taken before the constructor returns: it is the idle state. `starting_ns` is how long that took;
    it is the instrument's time, not the approach's.
    """

    def __init__(self, device: Device, gpu_uuid: str | None = None) -> None:
        begun_ns = perf_counter_ns()
        # A file, not a pipe: nobody has to read while requests run. It has no name, so nothing is left on any way out.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "firsttoken.measure.sampler", device, gpu_uuid or "", str(INTERVAL_S)],
            stdin=subprocess.PIPE,
            stdout=self._file,
            stderr=self._errors,
            env=package_environment(),
        )
        try:
            self.start = self._wait_for_first_sample()
        except BaseException:
            self.close()
            raise
        self.starting_ns = perf_counter_ns() - begun_ns

    def _wait_for_first_sample(self) -> SamplerStart:
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(lines := os.pread(self._file.fileno(), 1 << 16, 0).split(b"\n")) < 3:
            if self._process.poll() is not None:
                kind = Transient if self._process.returncode < 0 else RuntimeError  # killed, or it found an error
                raise kind(f"the telemetry sampler ended at its start: {self._last_error()}")
            if time.monotonic() > deadline:
                raise Transient(f"the telemetry sampler gave no sample within {START_TIMEOUT_S:.0f} s")
            time.sleep(0.002)
        return msgspec.json.decode(lines[0], type=SamplerStart)

    def _last_error(self) -> str:
        lines = os.pread(self._errors.fileno(), 1 << 16, 0).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}, no message"

    def measuring(self) -> None:
        """Requests start now: no more looks at the tree's memory."""
        tell(self._process, b"measuring")  # where it has died, its readings end early, and that taints

    def stop(self) -> Readings:
        """Take a last sample, with the tree's memory, end the sampler and return everything."""
        tell(self._process, b"stop")
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        written = os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0)
        # A line without its end was cut when the sampler died.
        whole = [line for line in written.splitlines(keepends=True)[1:] if line.endswith(b"\n")]
        return Readings(self.start, tuple(msgspec.json.decode(line, type=Sample) for line in whole))

    def close(self) -> None:
        """End the sampler on any way out; idempotent."""
        self._process.kill()  # does nothing where it has ended
        self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._file.close()
        self._errors.close()

    def __exit__(self, *_: object) -> None:
        self.close()
