"""Ours with 8-bit weights: half of the bytes that a token reads, and another function than the model's."""

from __future__ import annotations

from firsttoken.approaches.compiled_graph import CompiledGraph


class CompiledGraphInt8(CompiledGraph):
    """Our own decoder alone; weights are quantised when they are loaded, a scale for each row."""

    name = "compiled_graph_int8"
    title = "Compiled graph, 8-bit weights (ours)"
    forward = "compiled_int8"
    devices = ("cuda",)
    approximate = True
