"""Replayed CUDA graphs from a rolling pool in a generator process; JIT-compiled dynamic operations."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class JitCuda(EngineApproach):
    """The forward pass is replayed; the dynamic work of a step is one compiled call."""

    name = "jit_cuda"
    title = "JIT + CUDA graphs"
    forward = "graph"
    dynamic_operations = "jit"
    processes = 2
    graphs = True
    ahead = 1
