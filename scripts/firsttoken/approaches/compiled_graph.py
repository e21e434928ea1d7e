"""Ours: forward pass and dynamic operations in one captured graph a token, in a generator process."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class CompiledGraph(EngineApproach):
    """Our own decoder where it covers the model, else torch.compile; two decode steps are queued ahead."""

    name = "compiled_graph"
    title = "Compiled graph (ours)"
    forward = "compiled"
    dynamic_operations = "captured"
    processes = 2
    graphs = True
    ahead = 2
