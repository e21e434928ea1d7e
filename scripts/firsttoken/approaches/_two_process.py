"""Base of the approaches whose model lives in a generator process; this process needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from firsttoken.approaches.base import Approach, TokenSink
from firsttoken.engine.contract import DynamicOperations, EngineSpec, Forward
from firsttoken.plan import Plan
from firsttoken.results import MemoryReport, SetupTimes, TokenTiming
from firsttoken.server.client import GeneratorClient


class TwoProcessApproach(Approach):
    """A subclass says which engine: `forward` is the static work, `dynamic` the dynamic operations."""

    processes = 2
    graphs = True
    forward: ClassVar[Forward]
    dynamic: ClassVar[DynamicOperations]

    _client: GeneratorClient | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.dynamic_operations = cls.dynamic

    @classmethod
    def attach(cls, address: Path) -> Self:
        """One more client of a generator that another instance has loaded, here or in another process."""
        approach = cls()
        approach._client = GeneratorClient.attach(address)
        approach._client.wait_until_ready()
        return approach

    @property
    def address(self) -> Path:
        """Where `attach` finds the generator."""
        return self._running().address

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        spec = EngineSpec(
            model_dir=str(model_dir.absolute()), plan=plan, forward=self.forward, dynamic_operations=self.dynamic
        )
        self._client = GeneratorClient.launch(spec)
        return self._client.wait_until_ready()

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        self._running().generate(prompt_ids, max_new_tokens, sink.push)

    def timings(self) -> Sequence[TokenTiming]:
        return self._running().timings()

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        return self._running().save_logits(prompt_ids, continuation_ids, path)

    def memory(self) -> MemoryReport:
        return self._running().inspect().memory

    def counters(self) -> dict[str, float]:
        return self._running().inspect().counters

    def facts(self) -> dict[str, str]:
        return self._running().inspect().facts

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _running(self) -> GeneratorClient:
        if self._client is None:
            raise RuntimeError(f"{self.name} is not loaded")
        return self._client
