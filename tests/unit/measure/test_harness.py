"""A run leaves complete, valid files whatever the approach does; what it measured is what the approach did."""

from __future__ import annotations

import errno
import gc
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from firsttoken.approaches.base import Approach, TokenSink
from firsttoken.files import read_json
from firsttoken.measure import harness, run_record
from firsttoken.measure.harness import add_time_before_load, grown_counters, run_benchmark, write_failed_run
from firsttoken.measure.run_request import RunOutputs
from firsttoken.measure.sampler import Readings
from firsttoken.plan import Device, Plan, Unsupported
from firsttoken.results import Availability, RunRecord, SetupTimes, TelemetrySummary, TokensRecord
from firsttoken.sample_schema import SAMPLES_SCHEMA
from firsttoken.transient import Transient
from unit.measure.fakes import (
    LENGTHS,
    NEW_TOKENS,
    Constant,
    QuietTelemetry,
    Split,
    WithLogits,
    make_outputs,
    make_request,
)

REQUESTS = 6 * len(LENGTHS)
NOT_RANKED = "its error stands beside its latency, and it is in no ranking"


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "Telemetry", QuietTelemetry)


def run(tmp_path: Path, approach: type[Approach], **changes: Any) -> tuple[RunRecord, RunOutputs]:
    outputs = make_outputs(tmp_path)
    record = run_benchmark(make_request(tmp_path, **changes), approach, outputs)
    assert read_json(outputs.record, RunRecord) == record
    assert pq.read_schema(outputs.samples).equals(SAMPLES_SCHEMA)
    assert read_json(outputs.tokens, TokensRecord).approach == "constant"
    assert Path(outputs.logits).is_dir()
    return record, outputs


def test_a_run_has_one_row_a_token(tmp_path: Path) -> None:
    record, outputs = run(tmp_path, Constant)
    frame = pq.read_table(outputs.samples).to_pandas()
    assert record.status == "measured"
    assert (record.requests, record.tokens, len(frame)) == (REQUESTS, REQUESTS * NEW_TOKENS, REQUESTS * NEW_TOKENS)
    assert sorted(frame.groupby("request").size().unique()) == [NEW_TOKENS]
    assert set(frame["order"]) == set(range(REQUESTS))
    assert list(frame["order"].drop_duplicates()) == list(range(REQUESTS)), "rows are in the order of the run"
    assert list(frame["request"].drop_duplicates()) != list(range(REQUESTS)), "requests are shuffled"
    assert frame.groupby("prompt_length")["request"].nunique().to_dict() == {3: 6, 5: 6}
    assert frame.groupby(["prompt_length", "prompt_index"])["request"].nunique().unique().tolist() == [3]
    assert (frame["latency_ns"] > 0).all()
    assert not frame["tainted"].any()
    assert frame[["device_ns", "pool_hit"]].isna().all().all()


def test_the_record_says_how_the_run_was(tmp_path: Path) -> None:
    record, _ = run(tmp_path, Constant, model_hash="abc", versions={"torch": "2"}, gpu_uuid="GPU-1")
    assert record.gpu_uuid == "GPU-1"
    assert record.cold_ttft_ms is not None and record.ready_s is not None
    assert record.cold_ttft_ms >= record.ready_s * 1e3, "the first token comes after ready"
    assert sum([record.setup.load_s, record.setup.imports_s]) == pytest.approx(record.ready_s, abs=0.05)
    assert (record.model_hash, record.versions, record.compile_cache) == ("abc", {"torch": "2"}, "cold")
    assert record.spin_us == 7
    # one cold request and two warm rounds come before
    assert record.counters["requests"] == REQUESTS + 1 + 2 * len(LENGTHS)
    assert record.counters["measured.requests"] == REQUESTS
    assert record.counters["measured.captures"] == 0


def test_all_approaches_of_a_repeat_meet_the_same_order(tmp_path: Path) -> None:
    orders = []
    for name, repeat in (("a", 1), ("b", 1), ("b", 2)):
        _, outputs = run(tmp_path / name / str(repeat), Constant, repeat=repeat)
        orders.append(pq.read_table(outputs.samples)["request"].to_pylist())
    assert orders[0] == orders[1] != orders[2]


def test_the_split_of_the_latency_is_kept_and_unknown_parts_are_null(tmp_path: Path) -> None:
    _, outputs = run(tmp_path, Split)
    frame = pq.read_table(outputs.samples).to_pandas()
    first, later = frame[frame.token_index == 0], frame[frame.token_index > 0]
    assert set(first.device_ns) == {7} and set(first.ipc_ns) == {0} and first.queue_ns.isna().all()
    assert later.device_ns.isna().all()
    assert first.pool_hit.all() and not later.pool_hit.any()


class ShortSplit(Split):
    def timings(self):  # type: ignore[no-untyped-def]
        return [self.timing]


class Chunks(Constant):
    """Nothing, then one token, then the rest together: as a server streams."""

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        sink.push_chunk([])
        sink.push_chunk([prompt_ids[0]])
        sink.push_chunk([prompt_ids[0] + index for index in range(1, max_new_tokens)])


def test_chunks_share_a_stamp_and_an_id(tmp_path: Path) -> None:
    _, outputs = run(tmp_path, Chunks)
    rows = pq.read_table(outputs.samples).to_pandas()
    one = rows[rows.order == 0]
    assert one.chunk_id.tolist() == [0, 1, 1, 1]
    assert (one.latency_ns.to_numpy() > 0).tolist() == [True, True, False, False]
    tokens = read_json(outputs.tokens, TokensRecord).prompts[0]
    assert tokens.answers[0].tokens == (300, 301, 302, 303)


def pushing(count: int) -> type[Constant]:
    class Pushing(Constant):
        def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
            super().generate(prompt_ids, count, sink)

    return Pushing


@pytest.mark.parametrize("count", [0, NEW_TOKENS - 1, NEW_TOKENS + 1])
def test_another_number_of_tokens_fails_the_run(tmp_path: Path, count: int) -> None:
    record, outputs = run(tmp_path, pushing(count))
    assert record.status == "failed"
    assert f"pushed {count} tokens, {NEW_TOKENS} were asked for" in record.reason
    assert pq.read_table(outputs.samples).num_rows == 0


def test_a_chunk_beyond_the_last_token_fails_the_run(tmp_path: Path) -> None:
    class Overshoot(Constant):
        def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
            sink.push_chunk([1, 2, 3])
            sink.push_chunk([4, 5, 6])

    record, _ = run(tmp_path, Overshoot)
    assert (record.status, "pushed 6 tokens" in record.reason) == ("failed", True)


def failing_after(calls: int, error: BaseException) -> type[Constant]:
    class Failing(Constant):
        made: list[Constant] = []  # noqa: RUF012

        def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
            self.made.append(self)
            return super().load(model_dir, plan)

        def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
            if len(self.calls) == calls:
                raise error
            super().generate(prompt_ids, max_new_tokens, sink)

    return Failing


def test_an_exception_in_the_middle_keeps_what_was_measured(tmp_path: Path) -> None:
    before = 1 + 2 * len(LENGTHS)
    failing = failing_after(before + 5, RuntimeError("out of\n  luck"))
    record, outputs = run(tmp_path, failing)
    assert (record.status, record.reason) == ("failed", "RuntimeError: out of luck")
    assert record.requests == 5
    assert pq.read_table(outputs.samples).num_rows == 5 * NEW_TOKENS
    assert failing.made[0].closed == 1  # type: ignore[attr-defined]
    assert gc.isenabled() and gc.get_freeze_count() == 0, "the collector is back"


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupt_closes_the_approach_and_passes_through(tmp_path: Path, stop: BaseException) -> None:
    failing = failing_after(9, stop)
    outputs = make_outputs(tmp_path)
    with pytest.raises(type(stop)):
        run_benchmark(make_request(tmp_path), failing, outputs)
    assert failing.made[0].closed == 1  # type: ignore[attr-defined]
    assert gc.isenabled()
    assert not Path(outputs.record).exists(), "an interrupted run leaves no record"


class Refusing(Constant):
    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        raise Unsupported("this model has a sliding window; use another approach")


def test_an_unsupported_model_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    record, outputs = run(tmp_path, Refusing)
    assert (record.status, record.reason) == ("unavailable", "this model has a sliding window; use another approach")
    assert pq.read_table(outputs.samples).num_rows == 0


class Absent(Constant):
    @classmethod
    def availability(cls, device: Device, dtype: str, to_be_installed: bool = False) -> Availability:
        return Availability(status="unavailable", reason="tensorrt_llm is not installed; pip install it")

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        raise AssertionError("an unavailable approach is not loaded")


def test_an_unavailable_approach_is_not_loaded(tmp_path: Path) -> None:
    record, outputs = run(tmp_path, Absent)
    assert (record.status, record.reason) == ("unavailable", "tensorrt_llm is not installed; pip install it")
    assert read_json(outputs.tokens, TokensRecord).prompts == ()


class Graphs(Constant):
    graphs = True


def test_emulated_graphs_are_called_that(tmp_path: Path) -> None:
    record, _ = run(tmp_path, Graphs)
    assert record.status == "emulated" and "no CUDA device" in record.reason
    assert record.requests == REQUESTS


class Rounding(Constant):
    @classmethod
    def approximate(cls, device: Device, dtype: str) -> str:
        return f"rounds {dtype} on {device}"


def test_what_is_approximate_says_how_and_that_it_is_not_ranked(tmp_path: Path) -> None:
    record, _ = run(tmp_path, Rounding)
    assert (record.status, record.requests) == ("approximate", REQUESTS)
    assert record.reason == f"rounds float32 on cpu; {NOT_RANKED}"


class Recompiling(Constant):
    def counters(self) -> dict[str, float]:
        return {"recompiles": float(len(self.calls))}


def test_a_recompile_while_measuring_taints_every_sample(tmp_path: Path) -> None:
    record, outputs = run(tmp_path, Recompiling)
    assert record.status == "measured", "tainted samples are kept, flagged and counted"
    assert record.tainted_requests == REQUESTS
    assert any("recompiles grew" in reason for reason in record.telemetry.taint_reasons)
    assert all(pq.read_table(outputs.samples)["tainted"].to_pylist())


def test_only_growth_of_the_named_counters_taints() -> None:
    assert grown_counters({"captures": 2, "prefills": 1}, {"captures": 2, "prefills": 9}) == []
    assert grown_counters({}, {"captures": 1}) == ["captures grew from 0 to 1 while measuring"]


class Wavering(Constant):
    """Gives another answer every third time."""

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        self.calls.append(tuple(prompt_ids))
        token = 1 if self.calls.count(tuple(prompt_ids)) % 3 else 2
        sink.push_chunk([token] * max_new_tokens)


def test_differing_answers_are_counted(tmp_path: Path) -> None:
    steady = read_json(run(tmp_path / "a", Constant)[1].tokens, TokensRecord)
    assert {tuple(answer.requests for answer in prompt.answers) for prompt in steady.prompts} == {(3,)}
    wavering = read_json(run(tmp_path / "b", Wavering)[1].tokens, TokensRecord)
    answers = [prompt.answers for prompt in wavering.prompts]
    assert any(len(found) == 2 and found[0].tokens != found[1].tokens for found in answers)
    assert all(sum(answer.requests for answer in found) == 3 for found in answers), "every request is in one of them"


def test_logits_predict_the_tokens_of_the_reference(tmp_path: Path) -> None:
    reference = tmp_path / "reference.safetensors"
    tokens = {
        f"tokens/{length}/{index}": np.arange(length, length + NEW_TOKENS) for length in LENGTHS for index in (0, 1)
    }
    save_file(tokens, reference)
    _, outputs = run(tmp_path, WithLogits, reference_path=str(reference), logit_prompts_per_length=1)
    record = read_json(outputs.tokens, TokensRecord)
    files = {(prompt.prompt_length, prompt.prompt_index): prompt.logits_file for prompt in record.prompts}
    assert files == {(3, 0): "3-0.safetensors", (3, 1): None, (5, 0): "5-0.safetensors", (5, 1): None}
    assert record.logits_reason == ""
    saved = load_file(Path(outputs.logits, "5-0.safetensors"))["logits"]
    assert saved[:, 0].tolist() == [5.0, 6.0, 7.0, 8.0]


class CppCompileError(RuntimeError):
    """Of torch."""


COMPILER = """C++ compile error

Command:
g++ -x c++-header /tmp/small/firsttoken-job-1/x.h -D A -D B

Output:
/env/torch/include/cpp_prefix.h:1490:2: fatal error: cannot write PCH file: No space left on device
compilation terminated."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: [Errno 28] No space left on device; make room"),
        (CppCompileError(COMPILER), "CppCompileError: /env/torch/include/cpp_prefix.h:1490:2: fatal error: cannot "
         "write PCH file: No space left on device; make room, or set TMPDIR to another folder than /small, and run"),
        (Transient("killed"), "Transient: killed; run again to go on"),
    ],
)  # fmt: skip
def test_what_may_be_over_the_next_time_fails_the_job_and_leaves_no_record(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing for the compiler: the line ended within its command."""
    monkeypatch.setattr(harness, "gettempdir", lambda: "/small/firsttoken-job-1")
    full = failing_after(7, error)
    with pytest.raises(Transient, match=re.escape(f"constant, process 1: {said}")):
        run(tmp_path, full)
    assert full.made[0].closed == 1  # type: ignore[attr-defined]
    assert not Path(make_outputs(tmp_path).record).exists()


def test_why_there_are_no_logits_is_said(tmp_path: Path) -> None:
    reference = tmp_path / "reference.safetensors"
    save_file({"tokens/3/0": np.arange(4)}, reference)
    asked = {"reference_path": str(reference), "logit_prompts_per_length": 1}
    _, outputs = run(tmp_path / "a", Constant, **asked)
    assert read_json(outputs.tokens, TokensRecord).logits_reason == "the approach does not offer them"
    _, outputs = run(tmp_path / "b", Constant)
    assert read_json(outputs.tokens, TokensRecord).logits_reason == "the study asked for none"
    record, _ = run(tmp_path / "c", WithLogits, **asked)
    assert (record.status, "no tokens/5/0" in record.reason) == ("failed", True)


def test_a_broken_contract_fails_the_run(tmp_path: Path) -> None:
    record, _ = run(tmp_path, ShortSplit)
    assert record.status == "failed"
    assert "timings() gave 1 rows for 4 tokens" in record.reason


def test_time_before_load_is_counted_once() -> None:
    own = SetupTimes(imports_s=2.0, load_s=1.0)
    assert add_time_before_load(own, ready_s=3.5, before_load_s=0.5).imports_s == pytest.approx(2.5)
    counted = SetupTimes(imports_s=2.5, load_s=1.0)
    assert add_time_before_load(counted, ready_s=3.5, before_load_s=0.5).imports_s == pytest.approx(2.5)


def test_requests_in_a_tainted_window_are_flagged_and_the_others_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle third of the run is tainted: its requests are, and only those."""
    seen: dict[str, tuple[int, int]] = {}

    def summarise(readings: Readings, span: tuple[int, int], tokens: int, threads: int) -> TelemetrySummary:
        third = (span[1] - span[0]) // 3
        seen["window"] = (span[0] + third, span[0] + 2 * third)
        return TelemetrySummary(source="cpu", tainted_windows=(seen["window"],), taint_reasons=("noise",))

    monkeypatch.setattr(run_record, "summarise", summarise)
    record, outputs = run(tmp_path, Constant, pause_ms=1.0, requests_per_length=15)
    frame = pq.read_table(outputs.samples).to_pandas()
    flagged = frame.groupby("order")["tainted"].agg(["min", "max"])
    assert (flagged["min"] == flagged["max"]).all(), "a request is tainted as a whole"
    tainted = flagged["max"]
    assert 0 < tainted.sum() < len(tainted) and tainted.sum() == record.tainted_requests
    assert tainted.astype(int).diff().abs().sum() <= 2, "one stretch of the run"
    assert not tainted.iloc[0] and not tainted.iloc[-1]


def test_a_run_whose_process_died_leaves_its_four_files(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path)
    write_failed_run(make_request(tmp_path), Constant, outputs, "killed by SIGSEGV")
    record = read_json(outputs.record, RunRecord)
    assert (record.status, record.reason, record.requests) == ("failed", "killed by SIGSEGV", 0)
    assert pq.read_table(outputs.samples).num_rows == 0
    assert read_json(outputs.tokens, TokensRecord).prompts == () and Path(outputs.logits).is_dir()
