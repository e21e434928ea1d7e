"""Control: our decode loop over a static KV cache, everything eager and native, in one process."""

from __future__ import annotations

from firsttoken.approaches._engine import EngineApproach


class EagerLoop(EngineApproach):
    """What the graph approaches are, without graphs: what the loop and the cache alone bring."""

    name = "eager_loop"
    title = "Own loop, eager"
    forward = "eager"
    dynamic_operations = "native"
    control = True
