"""The one place that knows all engines: a spec goes in, an engine that has loaded, compiled, captured and warmed comes
out."""

from __future__ import annotations

import time
from collections.abc import Callable

from firsttoken.engine.base import Engine, EngineSpec


def build_engine(spec: EngineSpec) -> Engine:
    """Make the engine that `spec` describes. Raises `plan.Unsupported` when it cannot serve the model or plan.

    What an engine needs is imported here and timed, the start of CUDA too: `setup.imports_s` is this engine's own.
    """
    started_s = time.perf_counter()
    if spec.forward == "null":
        from firsttoken.engine.null import NullEngine

        return NullEngine(spec)
    import torch

    from firsttoken.engine.backend import backend_for
    from firsttoken.engine.loop import LoopEngine, Steps

    load_steps: Callable[[EngineSpec, torch.device], Steps]
    if spec.forward in ("compiled", "compiled_int8"):
        from firsttoken.compiled.steps import load_compiled_steps as load_steps
    else:
        from firsttoken.hf.steps import load_hf_steps as load_steps
    backend = backend_for(spec.plan.device, getattr(torch, spec.plan.dtype))  # starts CUDA, which belongs to no step
    imports_s = time.perf_counter() - started_s
    return LoopEngine(spec, backend, load_steps, imports_s)
