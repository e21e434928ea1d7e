"""Control: CUDA graphs as in `cuda_graph`, without the second process."""

from __future__ import annotations

from firsttoken.approaches._one_process import OneProcessApproach


class CudaGraphOneProcess(OneProcessApproach):
    """Graphs without JIT, called directly."""

    name = "cuda_graph_1p"
    title = "CUDA graphs, one process"
    forward = "graph"
    graphs = True
    control = True
