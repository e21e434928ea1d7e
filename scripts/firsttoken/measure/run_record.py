"""What a run has found so far, and the record made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter_ns

import msgspec
import numpy as np
from numpy.typing import NDArray

from firsttoken.approaches.base import Approach
from firsttoken.measure.run_request import RunRequest
from firsttoken.measure.sample_buffer import SampleBuffer
from firsttoken.measure.sampler import Readings
from firsttoken.measure.summary import memory_record, summarise
from firsttoken.measure.taint import overlapping
from firsttoken.measure.tokens import TokenLog
from firsttoken.measure.workload import order_seed
from firsttoken.plan import Prompt
from firsttoken.results import Facts, MemoryRecord, MemoryReport, RunRecord, SetupTimes, Status, TelemetrySummary


@dataclass
class Run:
    """One run and what it has found so far; kept when the approach fails."""

    request: RunRequest
    approach_class: type[Approach]
    samples: SampleBuffer
    status: Status
    reason: str
    tokens: TokenLog = field(default_factory=TokenLog)
    by_length: dict[int, list[Prompt]] = field(default_factory=dict)
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    started_ns: int = field(default_factory=perf_counter_ns)
    setup: SetupTimes = field(default_factory=SetupTimes)
    ready_s: float | None = None
    cold_ttft_ms: float | None = None
    memory: MemoryReport = field(default_factory=MemoryReport)
    readings: Readings | None = None
    counters: dict[str, float] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    taint_all: list[str] = field(default_factory=list)  # reasons that concern every sample

    def telemetry(self) -> TelemetrySummary:
        """What the machine did during the complete requests, and all reasons for which samples are tainted."""
        requests = self.samples.requests
        if self.readings is None or requests == 0:
            summary = TelemetrySummary(source=self.readings.start.source if self.readings else "none")
        else:
            span = (int(self.samples.starts_ns[0]), int(self.samples.ends_ns[requests - 1]))
            summary = summarise(self.readings, span, requests * self.samples.new_tokens, self.request.plan.threads)
        return msgspec.structs.replace(summary, taint_reasons=(*self.taint_all, *summary.taint_reasons))

    def tainted(self, telemetry: TelemetrySummary) -> NDArray[np.bool_]:
        """`[requests]`: all of them, or those that share time with a tainted window."""
        n = self.samples.requests
        windows = telemetry.tainted_windows
        return overlapping(self.samples.starts_ns[:n], self.samples.ends_ns[:n], windows) | bool(self.taint_all)

    def record(self, telemetry: TelemetrySummary, tainted_requests: int) -> RunRecord:
        """The record of this run, once it is over."""
        request, approach = self.request, self.approach_class
        facts = msgspec.structs.asdict(self.facts) | {"tf32": self.facts.tf32 == "on"}
        plan, requests = request.plan, self.samples.requests
        return RunRecord(
            approach=request.approach,
            title=approach.title,
            repeat=request.repeat,
            status=self.status,
            reason=self.reason,
            device=plan.device,
            dtype=plan.dtype,
            processes=approach.processes,
            graphs=approach.graphs,
            dynamic_operations=approach.dynamic_operations,
            threads=plan.threads,
            requests=requests,
            tokens=requests * plan.new_tokens,
            setup=self.setup,
            ready_s=self.ready_s,
            cold_ttft_ms=self.cold_ttft_ms,
            counters=self.counters,
            telemetry=telemetry,
            tainted_requests=tainted_requests,
            memory=memory_record(self.memory, self.readings) if self.readings else MemoryRecord(),
            **facts,
            model_hash=request.model_hash,
            code_sha256=request.code_sha256,
            fingerprint=request.fingerprint,
            gpu_uuid=request.gpu_uuid or "",
            versions=request.versions,
            order_seed=order_seed(plan.seed, request.repeat),
            started_at=self.started_at,
            duration_s=(perf_counter_ns() - self.started_ns) / 1e9,
        )
