"""Approaches that are our own engines: what they share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import msgspec

from firsttoken.approaches.base import Approach, TokenSink
from firsttoken.engine.base import DynamicOperations, Engine, EngineSpec, Forward
from firsttoken.plan import Plan
from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming

if TYPE_CHECKING:
    from firsttoken.server.client import GeneratorClient


class EngineApproach(Approach):
    """A subclass says which engine. With `processes` 2 the engine lives in a generator process, and this one needs no
    torch."""

    forward: ClassVar[Forward]
    dynamic_operations: ClassVar[DynamicOperations]
    ahead: ClassVar[int] = 0  # decode steps queued before a token is read

    _engine: Engine | GeneratorClient | None = None

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        spec = EngineSpec(
            model_dir=str(model_dir.absolute()),
            plan=plan,
            forward=self.forward,
            dynamic_operations=self.dynamic_operations,
            ahead=self.ahead,
        )
        started_s = time.perf_counter()
        if self.processes == 2:
            from firsttoken.server.client import GeneratorClient

            imported_s = time.perf_counter() - started_s
            client = self._engine = GeneratorClient.launch(spec)
            setup = client.wait_until_ready()
        else:
            from firsttoken.engines import build_engine

            imported_s = time.perf_counter() - started_s
            self._engine = build_engine(spec)
            setup = self._engine.setup
        return msgspec.structs.replace(setup, imports_s=imported_s + setup.imports_s)

    @classmethod
    def attach(cls, address: Path) -> Self:
        """One more client of a generator that another instance has loaded, here or in another process."""
        from firsttoken.server.client import GeneratorClient

        approach = cls()
        client = approach._engine = GeneratorClient.attach(address)
        client.wait_until_ready()
        return approach

    @property
    def address(self) -> Path:
        """Where `attach` finds the generator; of two-process approaches."""
        return self._running().address  # type: ignore[union-attr]

    def _running(self) -> Engine | GeneratorClient:
        """The loaded engine. Raises RuntimeError before `load`."""
        if self._engine is None:
            raise RuntimeError(f"{self.name} is not loaded")
        return self._engine

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        self._running().generate(prompt_ids, max_new_tokens, sink.push)

    def timings(self) -> Sequence[TokenTiming]:
        return self._running().timings()

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        return self._running().save_logits(prompt_ids, continuation_ids, path)

    def memory(self) -> MemoryReport:
        return self._running().memory()

    def counters(self) -> dict[str, float]:
        return self._running().counters()

    def facts(self) -> Facts:
        return self._running().facts()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            if self.processes == 1:
                self._engine = None  # a closed client says so itself
