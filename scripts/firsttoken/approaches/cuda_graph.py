"""Replayed CUDA graphs from a rolling pool in a generator process; native dynamic operations."""

from __future__ import annotations

from firsttoken.approaches._two_process import TwoProcessApproach


class CudaGraph(TwoProcessApproach):
    """The static work is replayed; padding, positions and sampling are PyTorch calls, one after another."""

    name = "cuda_graph"
    title = "CUDA graphs"
    forward = "graph"
    dynamic = "native"
