"""Ours with 8-bit weights: half of the bytes that a token reads, and another function than the model's."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach
from firsttoken.plan import Device


class CompiledGraphInt8(EngineApproach):
    """Our own decoder alone; weights are quantised when they are loaded, a scale for each row."""

    name = "compiled_graph_int8"
    title = "Compiled graph, 8-bit weights (ours)"
    forward = "compiled_int8"
    dynamic_operations = "captured"
    processes = 2
    graphs = True
    ahead = 2
    devices = ("cuda",)

    @classmethod
    def approximate(cls, device: Device, dtype: str) -> str:
        return "weights are rounded to 8 bits"
