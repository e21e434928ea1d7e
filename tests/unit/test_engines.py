"""The door to the engines: which one a spec opens, and what its imports took."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from firsttoken import engines
from firsttoken.engine.base import EngineSpec, Forward
from firsttoken.plan import Plan

PLAN = Plan(prompt_lengths=(4,), new_tokens=2, max_context=32, dtype="float32", device="cpu")
IMPORT_S = 7.0

LOADERS: tuple[tuple[Forward, str, str], ...] = (
    ("compiled", "compiled.steps", "load_compiled_steps"),
    ("graph", "hf.steps", "load_hf_steps"),
    ("eager", "hf.steps", "load_hf_steps"),
)


@pytest.mark.parametrize(("forward", "module", "loader"), LOADERS)
def test_an_engine_is_told_what_its_imports_took(
    forward: Forward, module: str, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing for `compiled`, whose import of torch was counted nowhere."""
    from firsttoken.engine import loop

    now_s = [100.0]
    monkeypatch.setattr("firsttoken.engines.time.perf_counter", lambda: now_s[0])
    monkeypatch.setattr(loop, "LoopEngine", lambda *arguments: arguments)

    class SlowToImport(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name != loader:
                raise AttributeError(name)
            now_s[0] += IMPORT_S
            return name

    monkeypatch.setitem(sys.modules, f"firsttoken.{module}", SlowToImport(module))
    spec = EngineSpec(model_dir="", plan=PLAN, forward=forward, dynamic_operations="native")
    made: Any = engines.build_engine(spec)
    assert (made[0], made[2], made[3]) == (spec, loader, IMPORT_S)


def test_null_needs_no_torch() -> None:
    spec = EngineSpec(model_dir="", plan=PLAN, forward="null", dynamic_operations="none")
    assert type(engines.build_engine(spec)).__name__ == "NullEngine"
