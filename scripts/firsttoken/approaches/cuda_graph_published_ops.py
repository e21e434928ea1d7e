"""Control: `cuda_graph_1p` with dynamic operations modelled on the published study's code, which wait for the device.

What they are modelled on, and where they differ from it, is said in `hf/published_ops.py`.
"""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class CudaGraphPublishedOps(EngineApproach):
    """Graphs alone as the published study has them, so that its "CUDA graphs alone struggle" can be tested."""

    name = "cuda_graph_published_ops"
    title = "CUDA graphs, operations modelled on the published code"
    forward = "graph"
    dynamic_operations = "published"
    graphs = True
    control = True
