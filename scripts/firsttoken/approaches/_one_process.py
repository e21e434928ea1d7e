"""An engine in this process, called directly: what the one-process engine approaches share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from firsttoken.approaches.base import Approach, TokenSink
from firsttoken.plan import Plan
from firsttoken.results import MemoryReport, SetupTimes, TokenTiming

if TYPE_CHECKING:
    from firsttoken.engine.contract import DynamicOperations, Engine, Forward


def _never() -> bool:
    return False


class OneProcessApproach(Approach):
    """Subclasses name the engine's `forward` and its dynamic operations."""

    forward: ClassVar[Forward]

    _engine: Engine | None = None

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        started_s = time.perf_counter()
        from firsttoken.engine.contract import EngineSpec
        from firsttoken.engines import build_engine

        # The class variable also knows "engine", which is TensorRT-LLM's and no runtime engine's.
        operations: DynamicOperations = self.dynamic_operations  # type: ignore[assignment]
        spec = EngineSpec(model_dir=str(model_dir), plan=plan, forward=self.forward, dynamic_operations=operations)
        imported_s = time.perf_counter() - started_s
        self._engine = build_engine(spec)
        setup = self._engine.setup
        return SetupTimes(
            imports_s=imported_s + setup.imports_s,
            load_s=setup.load_s,
            compile_s=setup.compile_s,
            capture_s=setup.capture_s,
            warm_up_s=setup.warm_up_s,
        )

    def _running(self) -> Engine:
        """The loaded engine. Raises RuntimeError before `load` and after `close`."""
        if self._engine is None:
            raise RuntimeError(f"{self.name}: not loaded")
        return self._engine

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        self._running().generate(prompt_ids, max_new_tokens, sink.push, _never)

    def timings(self) -> Sequence[TokenTiming]:
        return self._running().timings()

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        return self._running().save_logits(prompt_ids, continuation_ids, path)

    def memory(self) -> MemoryReport:
        return self._running().memory()

    def counters(self) -> dict[str, float]:
        return self._running().counters()

    def facts(self) -> dict[str, str]:
        return self._running().facts()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
