"""The instrument with its second process: constant tokens, handed over at once through the generator's socket."""

from __future__ import annotations

from firsttoken.approaches._two_process import TwoProcessApproach


class Null2p(TwoProcessApproach):
    """Its latency is the price of harness, socket and two processes; nothing is computed."""

    name = "null_2p"
    title = "Nothing, in two processes"
    graphs = False
    control = True
    forward = "null"
    dynamic = "none"
