"""Replayed CUDA graphs from a rolling pool in a generator process; JIT-compiled dynamic operations."""

from __future__ import annotations

from firsttoken.approaches._two_process import TwoProcessApproach


class JitCuda(TwoProcessApproach):
    """The static work is replayed; padding, positions and sampling are one compiled call a step."""

    name = "jit_cuda"
    title = "JIT + CUDA graphs"
    forward = "graph"
    dynamic = "jit"
