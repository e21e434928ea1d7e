"""Control: CUDA graphs and native dynamic operations as in `cuda_graph`, in one process; each token is read at once."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class CudaGraphOneProcess(EngineApproach):
    """Graphs, without JIT, called directly."""

    name = "cuda_graph_1p"
    title = "CUDA graphs, one process"
    forward = "graph"
    dynamic_operations = "native"
    graphs = True
    control = True
