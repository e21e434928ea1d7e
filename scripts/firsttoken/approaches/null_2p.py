"""The instrument with its second process: constant tokens, handed over at once through the generator's socket."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class Null2p(EngineApproach):
    """Its latency is the price of harness, socket and two processes; nothing is computed."""

    name = "null_2p"
    title = "Nothing, in two processes"
    forward = "null"
    dynamic_operations = "none"
    processes = 2
    control = True
