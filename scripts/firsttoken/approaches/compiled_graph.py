"""Ours: the whole step compiled by Inductor, with fused projections, then captured as one CUDA graph."""

from __future__ import annotations

from firsttoken.approaches._two_process import TwoProcessApproach


class CompiledGraph(TwoProcessApproach):
    """Forward pass and dynamic work in one captured graph a token; replays are queued ahead of the tokens read."""

    name = "compiled_graph"
    title = "Compiled graph (ours)"
    forward = "compiled"
    dynamic = "captured"
