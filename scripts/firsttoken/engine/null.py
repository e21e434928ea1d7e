"""An engine that hands over a constant token at once: what remains is the price of the instrument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from firsttoken.engine.base import EngineSpec, never
from firsttoken.plan import check_fits
from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming

CONSTANT_TOKEN = 1


class NullEngine:
    """Loads nothing and computes nothing; needs no torch. Its only check is the one that every engine makes."""

    def __init__(self, spec: EngineSpec) -> None:
        self.setup = SetupTimes()
        self._max_context = spec.plan.max_context
        self._tokens = 0

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        emit: Callable[[int], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        check_fits(len(prompt_ids), max_new_tokens, self._max_context)
        for _ in range(max_new_tokens):
            if cancelled():
                return
            emit(CONSTANT_TOKEN)
            self._tokens += 1

    def timings(self) -> Sequence[TokenTiming]:
        return ()

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        return False

    def memory(self) -> MemoryReport:
        return MemoryReport()

    def counters(self) -> dict[str, float]:
        return {"tokens": float(self._tokens)}

    def facts(self) -> Facts:
        return Facts(attention="none")

    def capturing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to release."""
