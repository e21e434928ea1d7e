"""How fast a kernel runs: in short bursts after an idle pause, and sustained.

A GPU lowers its clock within milliseconds of full load to stay below its power limit. A request at batch size 1 is
shorter than that, so a bound on it must come from bursts.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import NamedTuple

from firsttoken.plan import Device

REPEATS = 12
SCREENED_REPEATS = 2  # of every kernel; then REPEATS of the best
FINALISTS = {"cpu": 1, "cuda": 6}
BURST_S = {"cpu": 0.002, "cuda": 0.001}
SCREENED_PAUSE_S = {"cpu": 0.0, "cuda": 0.002}
PAUSE_S = {"cpu": 0.0, "cuda": 0.03}
SUSTAINED_S = {"cpu": 0.05, "cuda": 0.5}  # before sustained samples: a GPU needs this long to settle its clock


class Kernel(NamedTuple):
    """One way to move bytes or to multiply matrices."""

    name: str
    work: float  # bytes or operations of a call
    call: Callable[[], object]
    library: str = ""  # for CUDA, as `blas_library` takes it


class Best(NamedTuple):
    """The kernel with the highest rate in any sample."""

    kernel: str  # its name, and whether the samples are bursts or sustained
    samples: tuple[float, ...]  # work a second
    sustained: float  # the best sustained sample of the same kernel


def best_of(kernels: Iterable[Kernel], device: Device) -> Best:
    """The highest rate of all kernels. Kernels are made one after another; only the best stay in memory."""
    screened = (
        (max(burst_rates(kernel, device, SCREENED_REPEATS, SCREENED_PAUSE_S[device])), kernel) for kernel in kernels
    )
    finalists = heapq.nlargest(FINALISTS[device], screened, key=itemgetter(0))
    measured = [(burst_rates(kernel, device, REPEATS, PAUSE_S[device]), kernel) for _, kernel in finalists]
    bursts, kernel = max(measured, key=lambda entry: max(entry[0]))
    sustained = sustained_rates(kernel, device)
    how, samples = max((("bursts", bursts), ("sustained", sustained)), key=lambda entry: max(entry[1]))
    return Best(f"{kernel.name}, {how}", samples, max(sustained))


def burst_rates(kernel: Kernel, device: Device, repeats: int, pause_s: float) -> tuple[float, ...]:
    """Work a second in each of `repeats` bursts of a few calls, each after a pause."""
    with blas_library(kernel.library):
        kernel.call()
        calls = max(1, round(BURST_S[device] / seconds(kernel.call, 1, device)))
        samples = []
        for _ in range(repeats):
            time.sleep(pause_s)
            samples.append(kernel.work * calls / seconds(kernel.call, calls, device))
    return tuple(samples)


def sustained_rates(kernel: Kernel, device: Device) -> tuple[float, ...]:
    """Work a second in each of `REPEATS` samples without pauses, after `SUSTAINED_S` of the same load."""
    with blas_library(kernel.library):
        end = time.perf_counter() + SUSTAINED_S[device]
        while time.perf_counter() < end:
            seconds(kernel.call, 1, device)
    return burst_rates(kernel, device, REPEATS, pause_s=0.0)


def seconds(call: Callable[[], object], times: int, device: Device) -> float:
    """Time of `times` calls. On CUDA by events, behind one more call that hides the launch of the first."""
    if device == "cuda":
        import torch

        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        call()
        first.record()
        for _ in range(times):
            call()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - begun


@contextmanager
def blas_library(name: str) -> Iterator[None]:
    """Let torch's matrix products on CUDA use `cublas` or `cublaslt`; an empty name changes nothing."""
    if not name:
        yield
        return
    import torch

    before = torch.backends.cuda.preferred_blas_library()
    torch.backends.cuda.preferred_blas_library(name)
    try:
        yield
    finally:
        torch.backends.cuda.preferred_blas_library(before)
