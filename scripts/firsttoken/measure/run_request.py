"""What one run is asked for, as the rule's script writes it for the run's own process.

Needs no numpy, since the script of every run imports this.
"""

from __future__ import annotations

from time import perf_counter_ns

import msgspec

from firsttoken.plan import Plan, Prompts, Record


class RunRequest(Record, frozen=True, kw_only=True):
    """Everything that one run needs; the script fills it from its inputs and params."""

    approach: str
    repeat: int
    model_dir: str
    plan: Plan
    prompts: Prompts
    requests_per_length: int
    pause_ms: float = 0.0
    reference_path: str = ""  # safetensors with tokens/{length}/{index}; "": no logits
    logit_prompts_per_length: int = 0
    process_started_ns: int = msgspec.field(default_factory=perf_counter_ns)  # just before it was
    model_hash: str = ""
    code_sha256: str = ""
    fingerprint: str = ""
    versions: dict[str, str] = {}  # noqa: RUF012 (msgspec copies it)
    gpu_uuid: str | None = None


class RunOutputs(Record, frozen=True, kw_only=True):
    """Paths of what a run leaves; all exist and are valid when `run_benchmark` returns."""

    samples: str
    record: str
    tokens: str
    logits: str  # a folder


class RunJob(Record, frozen=True, kw_only=True):
    """JOB.json."""

    request: RunRequest
    outputs: RunOutputs
    log: str
