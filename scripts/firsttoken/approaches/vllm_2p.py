"""The control of `vllm`: the same engine with its core in a process of its own, where `vllm serve` has it."""

from __future__ import annotations

from firsttoken.approaches.vllm import Vllm


class Vllm2p(Vllm):
    """What the second process costs or saves inside vLLM: it schedules while this one handles tokens."""

    name = "vllm_2p"
    title = "vLLM in two processes"
    processes = 2
    control = True
