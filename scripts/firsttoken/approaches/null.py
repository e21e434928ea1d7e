"""The instrument itself: constant tokens, handed over at once in the harness's own process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from firsttoken.approaches.base import Approach, TokenSink
from firsttoken.engine.contract import Engine, EngineSpec
from firsttoken.engine.null import NullEngine
from firsttoken.plan import Plan
from firsttoken.results import SetupTimes


class Null(Approach):
    """Its latency is the price of the harness; nothing is computed."""

    name = "null"
    title = "Nothing, in one process"
    dynamic_operations = "none"
    control = True

    _engine: Engine | None = None

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        spec = EngineSpec(model_dir=str(model_dir), plan=plan, forward="null", dynamic_operations="none")
        self._engine = NullEngine(spec)
        return self._engine.setup

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        self._loaded().generate(prompt_ids, max_new_tokens, sink.push, lambda: False)

    def counters(self) -> dict[str, float]:
        return self._loaded().counters()

    def facts(self) -> dict[str, str]:
        return self._loaded().facts()

    def close(self) -> None:
        self._engine = None

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("null is not loaded")
        return self._engine
