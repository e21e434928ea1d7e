"""What an engine is to whoever drives it: an approach in the same process, or the engine thread of a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from firsttoken.plan import Plan, Record
from firsttoken.results import Facts, MemoryReport, SetupTimes, TokenTiming

Forward = Literal["eager", "graph", "compiled", "compiled_int8", "null"]
DynamicOperations = Literal["native", "published", "jit", "captured", "none"]


class EngineSpec(Record, frozen=True, kw_only=True):
    """Everything that makes an engine; it travels to the generator process as JSON."""

    model_dir: str
    plan: Plan
    forward: Forward
    dynamic_operations: DynamicOperations
    ahead: int = 0  # decode steps queued before a token is read


def never() -> bool:
    """The `cancelled` of a request that nobody cancels."""
    return False


class Engine(Protocol):
    """Runs one request at a time. Made by `engines.build_engine(spec)`; all calls come from one thread."""

    setup: SetupTimes  # imports_s is the engine's own; the driver adds what came before

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        emit: Callable[[int], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Call `emit(token)` once a token, as soon as it is an `int` on this host; stop early when `cancelled()`.

        Raises ValueError when prompt plus new tokens do not fit the KV cache, or an id is not in the vocabulary.
        """

    def timings(self) -> Sequence[TokenTiming]:
        """The split of the last request's latency, a row a token; ipc and queue are the driver's to fill."""

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        """As `Approach.save_logits`."""

    def memory(self) -> MemoryReport:
        """Peaks since the engine was built."""

    def counters(self) -> dict[str, float]:
        """prefill_hits, prefill_misses, prefills, decode_steps, decode_replays, captures, evictions, failed_captures,
        recompiles."""

    def facts(self) -> Facts:
        """How it computes."""

    def capturing(self) -> bool:
        """Whether another thread captures, or will: it needs the interpreter lock."""

    def close(self) -> None:
        """Release graphs, threads and memory; idempotent."""
