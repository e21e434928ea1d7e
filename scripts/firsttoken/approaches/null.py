"""The instrument itself: constant tokens, handed over at once in the harness's own process."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class Null(EngineApproach):
    """Its latency is the price of the harness; nothing is computed."""

    name = "null"
    title = "Nothing, in one process"
    forward = "null"
    dynamic_operations = "none"
    control = True
