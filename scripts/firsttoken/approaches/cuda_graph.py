"""Replayed CUDA graphs from a rolling pool in a generator process; native dynamic operations."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class CudaGraph(EngineApproach):
    """The forward pass is replayed; padding, positions and sampling are PyTorch calls, one after another."""

    name = "cuda_graph"
    title = "CUDA graphs"
    forward = "graph"
    dynamic_operations = "native"
    processes = 2
    graphs = True
    ahead = 1
