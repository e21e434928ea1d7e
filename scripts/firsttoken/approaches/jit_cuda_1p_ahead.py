"""Control: `jit_cuda` without its second process; as there, a decode step is queued before a token is read."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class JitCudaOneProcessAhead(EngineApproach):
    """Graphs and JIT, called directly, with one step queued ahead."""

    name = "jit_cuda_1p_ahead"
    title = "CUDA graphs and JIT, one process, one step ahead"
    forward = "graph"
    dynamic_operations = "jit"
    graphs = True
    ahead = 1
    control = True
