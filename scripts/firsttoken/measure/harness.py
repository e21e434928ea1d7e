"""One run: a fresh process measures one approach and leaves samples, record, tokens and logits, whatever happens.

Assumptions, each checked or recorded: every shape is warm (two requests a length; captures and recompiles must not grow
afterwards), the garbage collector is off while measuring, requests follow one another in a shuffled order, and nothing
runs between the stamp before `generate` and the stamp of the last token but the approach itself.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from pathlib import Path
from tempfile import gettempdir
from time import perf_counter_ns

import msgspec

from firsttoken.approaches.base import Approach
from firsttoken.collector import garbage_collector_off
from firsttoken.files import write_json
from firsttoken.measure.clocks import StampingSink, run_request
from firsttoken.measure.run_record import Run
from firsttoken.measure.run_request import RunOutputs, RunRequest
from firsttoken.measure.sample_buffer import SampleBuffer
from firsttoken.measure.telemetry import Telemetry
from firsttoken.measure.tokens import save_logits
from firsttoken.measure.workload import order_seed, prompts_by_length, schedule
from firsttoken.plan import Unsupported
from firsttoken.progress import Progress
from firsttoken.results import RunRecord, SetupTimes
from firsttoken.transient import Transient, is_transient

LOG = logging.getLogger(__name__)
WARM_ROUNDS = 2  # the second meets the shapes that the first one's compilations made
MUST_NOT_GROW = ("captures", "recompiles")


def run_benchmark(request: RunRequest, approach_class: type[Approach], outputs: RunOutputs) -> RunRecord:
    """Measure one approach once and write its files.

    An approach that cannot run, or that raises what it would raise again, gives a record that says so, with the samples
    taken until then. Raises Transient where it may succeed the next time. KeyboardInterrupt and SystemExit pass through
    after `close`.
    """
    plan = request.plan
    availability = approach_class.availability(plan.device, plan.dtype)
    samples = SampleBuffer(request.requests_per_length * len(plan.prompt_lengths), plan.new_tokens)
    run = Run(request, approach_class, samples, availability.status, availability.reason)
    Path(outputs.logits).mkdir(parents=True, exist_ok=True)
    if run.status != "unavailable":
        _attempt(run, Path(outputs.logits))
    return _write(run, outputs)


def write_failed_run(request: RunRequest, approach_class: type[Approach], outputs: RunOutputs, reason: str) -> None:
    """The files of a run whose process died before it could write them."""
    Path(outputs.logits).mkdir(parents=True, exist_ok=True)
    _write(Run(request, approach_class, SampleBuffer(0, request.plan.new_tokens), "failed", reason), outputs)


def _write(run: Run, outputs: RunOutputs) -> RunRecord:
    request, samples, telemetry = run.request, run.samples, run.telemetry()
    tainted = run.tainted(telemetry)
    record = run.record(telemetry, int(tainted.sum()))
    samples.write(outputs.samples, request.approach, request.repeat, tainted)
    write_json(outputs.tokens, run.tokens.record(request.approach, request.repeat))
    write_json(outputs.record, record)
    return record


def _attempt(run: Run, logits: Path) -> None:
    """All that needs the approach; what it raises becomes the run's status."""
    request = run.request
    progress = Progress(f"{request.approach} #{request.repeat}", len(run.samples.starts_ns))
    try:
        run.by_length = prompts_by_length(request.prompts, request.plan.prompt_lengths)
        with Telemetry(request.plan.device, request.gpu_uuid) as telemetry, run.approach_class() as approach:
            progress.note("loading, compiling, capturing")
            _start_cold(run, approach, telemetry.starting_ns)
            progress.note("warming")
            _warm(run, approach)
            telemetry.measuring()
            try:
                _measure(run, approach, progress)
            finally:
                run.readings = telemetry.stop()
            run.memory = approach.memory()
            run.facts = approach.facts()
            progress.note("logits for the equality check")
            prompts = [p for found in run.by_length.values() for p in found[: request.logit_prompts_per_length]]
            save_logits(approach, prompts, request.reference_path, logits, run.tokens)
    except Unsupported as error:
        run.status, run.reason = "unavailable", one_line(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        if is_transient(error):
            advice = "run again to go on"
            if os.strerror(errno.ENOSPC) in reason:  # of a compiler's files, below the job's private folder in TMPDIR
                advice = f"make room, or set TMPDIR to another folder than {Path(gettempdir()).parent}, and {advice}"
            raise Transient(f"{request.approach}, process {request.repeat}: {reason}; {advice}") from error
        LOG.exception("%s, process %d", request.approach, request.repeat, extra={"file_only": True})
        LOG.error("firsttoken: %s, process %d failed: %s", request.approach, request.repeat, reason)
        run.status, run.reason = "failed", reason
    finally:
        progress.close()


def _start_cold(run: Run, approach: Approach, instrument_ns: int) -> None:
    """Load, then the first request: from the start of the process until ready, and until the first token.

    The start of the telemetry is left out of both.
    """
    request, plan = run.request, run.request.plan
    process_ns = request.process_started_ns + instrument_ns
    before_load_s = (perf_counter_ns() - process_ns) / 1e9
    setup = approach.load(Path(request.model_dir), plan)
    run.ready_s = (perf_counter_ns() - process_ns) / 1e9
    run.setup = add_time_before_load(setup, run.ready_s, before_load_s)
    sink = StampingSink(plan.new_tokens)
    run_request(approach, run.by_length[plan.prompt_lengths[0]][0].token_ids, plan.new_tokens, sink)
    run.cold_ttft_ms = (int(sink.times_ns[0]) - process_ns) / 1e6


def add_time_before_load(setup: SetupTimes, ready_s: float, before_load_s: float) -> SetupTimes:
    """Count the interpreter's start and the harness's own imports as imports, unless the approach already did."""
    unattributed_s = ready_s - sum(msgspec.structs.astuple(setup))
    return msgspec.structs.replace(setup, imports_s=setup.imports_s + max(0.0, min(before_load_s, unattributed_s)))


def _warm(run: Run, approach: Approach) -> None:
    sink = StampingSink(run.request.plan.new_tokens)
    for _ in range(WARM_ROUNDS):
        for prompts in run.by_length.values():
            run_request(approach, prompts[0].token_ids, run.request.plan.new_tokens, sink)


def _measure(run: Run, approach: Approach, progress: Progress) -> None:
    request, new_tokens = run.request, run.request.plan.new_tokens
    sink = StampingSink(new_tokens)
    items = schedule(run.by_length, request.requests_per_length, order_seed(request.plan.seed, request.repeat))
    before = approach.counters()
    progress.note("measuring")
    with garbage_collector_off():
        for item in items:
            started_ns = run_request(approach, item.prompt.token_ids, new_tokens, sink)
            run.samples.add(item, started_ns, sink, approach.timings())
            run.tokens.add(item.prompt, sink.tokens)
            ttft_ms = (int(sink.times_ns[0]) - started_ns) / 1e6
            progress.update(f"TTFT at {item.prompt.length} tokens {ttft_ms:.2f} ms")
            if request.pause_ms:
                time.sleep(request.pause_ms / 1e3)
    after = approach.counters()
    run.counters = after | {f"measured.{name}": value - before.get(name, 0) for name, value in after.items()}
    run.taint_all += grown_counters(before, after)


def grown_counters(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """A reason for each counter that grew though everything was warm: such samples hold compilations or captures."""
    return [
        f"{name} grew from {before.get(name, 0):g} to {after[name]:g} while measuring"
        for name in MUST_NOT_GROW
        if after.get(name, 0) > before.get(name, 0)
    ]


def one_line(error: BaseException) -> str:
    """An exception's message as one line of at most 500 characters: of a compiler's, which begins with its long
    command, the first error."""
    message = str(error)
    compiler = re.search(rf"^\S+:\d+:\d+: .*error: .*|^.*{os.strerror(errno.ENOSPC)}.*", message, re.MULTILINE)
    return " ".join((compiler[0] if compiler else message).split())[:500] or type(error).__name__
