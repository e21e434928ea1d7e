"""Control: CUDA graphs and compiled dynamic operations as in `jit_cuda`, without the second process."""

from __future__ import annotations

from firsttoken.approaches._one_process import OneProcessApproach


class JitCudaOneProcess(OneProcessApproach):
    """Graphs and JIT, called directly."""

    name = "jit_cuda_1p"
    title = "CUDA graphs and JIT, one process"
    forward = "graph"
    dynamic_operations = "jit"
    graphs = True
    control = True
