"""Control: CUDA graphs and JIT-compiled dynamic operations in one process; each token is read at once."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class JitCudaOneProcess(EngineApproach):
    """Graphs and JIT, called directly."""

    name = "jit_cuda_1p"
    title = "CUDA graphs and JIT, one process"
    forward = "graph"
    dynamic_operations = "jit"
    graphs = True
    control = True
