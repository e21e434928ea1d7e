"""The door to the engines: a spec goes in, an engine that has loaded, compiled, captured and warmed comes out."""

from __future__ import annotations

import time

from firsttoken.engine.contract import Engine, EngineSpec


def build_engine(spec: EngineSpec) -> Engine:
    """Make the engine that `spec` describes. Raises `contract.Unsupported` when it cannot serve the model or plan.

    What an engine needs is imported here and timed: `setup.imports_s` is this engine's own.
    """
    started_s = time.perf_counter()
    if spec.forward == "null":
        from firsttoken.engine.null import NullEngine

        return NullEngine(spec)
    if spec.forward == "compiled":
        from firsttoken.compiled.compiled_engine import build_compiled_engine

        return build_compiled_engine(spec, imports_s=time.perf_counter() - started_s)
    from firsttoken.engine.loop import ModelEngine

    return ModelEngine(spec, imports_s=time.perf_counter() - started_s)
