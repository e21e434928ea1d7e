"""One run: a fresh process measures one approach and leaves samples, record, tokens and logits, whatever happens.

Assumptions, each checked or recorded: every shape is warm (two requests a length; captures and recompiles must not grow
afterwards), the garbage collector is off while measuring, requests follow one another in a shuffled order, and nothing
runs between the stamp before `generate` and the stamp of the last token but the approach itself.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter_ns

import msgspec

from firsttoken.approaches.base import Approach
from firsttoken.files import write_json
from firsttoken.measure.clocks import StampingSink, process_start_ns
from firsttoken.measure.evidence import Evidence, RunOutputs, RunRequest, run_record
from firsttoken.measure.progress import Progress
from firsttoken.measure.samples import SampleBuffer, write_samples
from firsttoken.measure.telemetry import Telemetry
from firsttoken.measure.tokens import TokenLog, save_logits
from firsttoken.measure.workload import order_seed, prompts_by_length, schedule
from firsttoken.plan import Prompt, Unsupported
from firsttoken.results import RunRecord, SetupTimes, Status

__all__ = ["RunOutputs", "RunRequest", "run_benchmark"]
LOG = logging.getLogger(__name__)
WARM_ROUNDS = 2  # the second meets the shapes that the first one's compilations made
MUST_NOT_GROW = ("captures", "recompiles")


class WrongTokenCount(Exception):
    """The approach did not push exactly the tokens asked for."""


def run_benchmark(request: RunRequest, approach_class: type[Approach], outputs: RunOutputs) -> RunRecord:
    """Measure one approach once and write its files.

    An approach that cannot run or that raises gives a record that says so, with the samples taken until then; the
    caller never sees its exceptions. KeyboardInterrupt and SystemExit pass through after `close`.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    begun_ns = perf_counter_ns()
    plan = request.plan
    evidence = Evidence(
        SampleBuffer(request.requests_per_length * len(plan.prompt_lengths), plan.new_tokens), TokenLog()
    )
    outputs.logits.mkdir(parents=True, exist_ok=True)
    availability = approach_class.availability(plan.device)
    status, reason = availability.status, availability.reason
    if status in ("measured", "emulated"):
        status, reason = _attempt(request, approach_class, outputs, evidence, status, reason)
    telemetry = evidence.telemetry(plan.threads)
    tainted = evidence.tainted(telemetry)
    record = run_record(
        request, approach_class, evidence, status, reason, started_at, begun_ns, telemetry, int(tainted.sum())
    )
    write_samples(outputs.samples, evidence.samples.table(request.approach, request.repeat, tainted))
    write_json(outputs.tokens, evidence.tokens.record(request.approach, request.repeat))
    write_json(outputs.record, record)
    return record


def _attempt(
    request: RunRequest,
    approach_class: type[Approach],
    outputs: RunOutputs,
    evidence: Evidence,
    status: Status,
    reason: str,
) -> tuple[Status, str]:
    progress = Progress(request.approach, request.repeat, len(evidence.samples.starts_ns))
    try:
        by_length = prompts_by_length(request.prompts, request.plan.prompt_lengths)
        with Telemetry(request.plan.device, request.gpu_uuid) as telemetry, approach_class() as approach:
            check_gpu(request.expected_gpu, telemetry.start.gpu_name)
            progress.note("loading, compiling, capturing")
            _start_cold(request, approach, by_length, evidence, telemetry.starting_ns)
            progress.note("warming")
            _warm(request, approach, by_length)
            telemetry.measuring()
            try:
                _measure(request, approach, by_length, evidence, progress)
            finally:
                evidence.readings = telemetry.stop()
            evidence.memory = approach.memory()
            evidence.facts = approach.facts()
            progress.note("logits for the equality check")
            save_logits(
                approach,
                by_length,
                request.reference_path,
                request.logit_prompts_per_length,
                outputs.logits,
                evidence.tokens,
            )
    except Unsupported as error:
        return "unavailable", one_line(error)
    except Exception as error:
        LOG.exception("%s, repeat %d: failed", request.approach, request.repeat)
        return "failed", f"{type(error).__name__}: {one_line(error)}"
    finally:
        progress.close()
    return status, reason


def _start_cold(
    request: RunRequest,
    approach: Approach,
    by_length: dict[int, list[Prompt]],
    evidence: Evidence,
    instrument_ns: int,
) -> None:
    """Load, then the first request: from the start of the process until ready, and until the first token.

    The wait for the device and the start of the telemetry are left out of both.
    """
    process_ns = min(request.process_started_ns, process_start_ns()) + request.waited_ns + instrument_ns
    before_load_s = (perf_counter_ns() - process_ns) / 1e9
    setup = approach.load(request.model_dir, request.plan)
    evidence.ready_s = (perf_counter_ns() - process_ns) / 1e9
    evidence.setup = add_time_before_load(setup, evidence.ready_s, before_load_s)
    prompt = by_length[request.plan.prompt_lengths[0]][0]
    sink = StampingSink(request.plan.new_tokens)
    _one_request(approach, prompt.token_ids, request.plan.new_tokens, sink)
    evidence.cold_ttft_ms = (int(sink.times_ns[0]) - process_ns) / 1e6


def add_time_before_load(setup: SetupTimes, ready_s: float, before_load_s: float) -> SetupTimes:
    """Count the interpreter's start and the script's own imports as imports, unless the approach already did."""
    unattributed_s = ready_s - sum(msgspec.structs.astuple(setup))
    return msgspec.structs.replace(setup, imports_s=setup.imports_s + max(0.0, min(before_load_s, unattributed_s)))


def check_gpu(expected: str, found: str) -> None:
    """Raise RuntimeError where this job runs on another GPU than the config says; "" matches any."""
    if expected and found and found != expected:
        raise RuntimeError(f"config key hardware.gpu: expected {expected!r}, this job has {found!r}; ask for that GPU")


def _warm(request: RunRequest, approach: Approach, by_length: dict[int, list[Prompt]]) -> None:
    sink = StampingSink(request.plan.new_tokens)
    for _ in range(WARM_ROUNDS):
        for prompts in by_length.values():
            _one_request(approach, prompts[0].token_ids, request.plan.new_tokens, sink)


def _measure(
    request: RunRequest,
    approach: Approach,
    by_length: dict[int, list[Prompt]],
    evidence: Evidence,
    progress: Progress,
) -> None:
    new_tokens = request.plan.new_tokens
    sink = StampingSink(new_tokens)
    items = schedule(by_length, request.requests_per_length, order_seed(request.plan.seed, request.repeat))
    before = approach.counters()
    progress.begin()
    with garbage_collector_off():
        for item in items:
            started_ns = _one_request(approach, item.prompt.token_ids, new_tokens, sink)
            evidence.samples.add(item, started_ns, sink, approach.timings())
            evidence.tokens.add(item.prompt, sink.tokens)
            progress.update(item.prompt.length, int(sink.times_ns[0]) - started_ns)
            if request.pause_ms:
                time.sleep(request.pause_ms / 1e3)
    after = approach.counters()
    evidence.counters = after | {f"measured.{name}": value - before.get(name, 0) for name, value in after.items()}
    evidence.taint_all += grown_counters(before, after)


def grown_counters(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """A reason for each counter that grew though everything was warm: such samples hold compilations or captures."""
    return [
        f"{name} grew from {before.get(name, 0):g} to {after[name]:g} while measuring"
        for name in MUST_NOT_GROW
        if after.get(name, 0) > before.get(name, 0)
    ]


def _one_request(approach: Approach, token_ids: Sequence[int], new_tokens: int, sink: StampingSink) -> int:
    """Run one request into the sink and return when it started, ns. Raises WrongTokenCount."""
    ids = list(token_ids)
    sink.reset()
    started_ns = perf_counter_ns()
    approach.generate(ids, new_tokens, sink)
    if sink.count != new_tokens:
        raise WrongTokenCount(f"pushed {sink.count} tokens, {new_tokens} were asked for ({len(ids)} prompt tokens)")
    return started_ns


@contextmanager
def garbage_collector_off() -> Iterator[None]:
    """Collect once, then keep the collector from running inside a request; restored on the way out."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def one_line(error: BaseException) -> str:
    """An exception's message as one line of at most 500 characters."""
    return " ".join(str(error).split())[:500] or type(error).__name__
