"""What the kernels need to know of a device; without triton, so that anyone can ask whether they can run."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch


def triton_problem(device: torch.device) -> str:
    """Why Triton cannot compile for this device; "" where it can. On a CPU it only runs in its interpreter, as in the
    tests (TRITON_INTERPRET=1)."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return "" if major >= 8 else f"compute capability {major}.{minor} is under 8.0"
    import triton

    return "" if triton.knobs.runtime.interpret else f"Triton cannot compile for this device ({device.type})"


@functools.cache
def num_sms(device: torch.device) -> int:
    """Streaming multiprocessors; few in the interpreter, so that its programs have several groups of rows each."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 2


@functools.cache
def shared_memory_bytes(device: torch.device, programs: int = 1) -> int:
    """Shared memory that a program may have where so many share an SM."""
    if device.type != "cuda":
        return 1 << 16
    properties: Any = torch.cuda.get_device_properties(device)
    # Less what a program takes beside its own, and the KiB that the largest program leaves to the device.
    return int(properties.shared_memory_per_multiprocessor) // programs - 4096


def next_power(count: int) -> int:
    """The smallest power of two that is not less than `count`."""
    return 1 << (count - 1).bit_length()
