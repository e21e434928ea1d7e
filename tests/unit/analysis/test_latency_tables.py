"""From raw files to summary and latency tables: known effects are found, what must not be shown is not."""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from firsttoken import files
from firsttoken.analysis.answer import summary_table_text
from firsttoken.analysis.instrument import instrument_table
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.schemas import read_table
from firsttoken.pooled_runs import read_records
from firsttoken.results import Ceilings, MemoryRecord, RunRecord, TelemetrySummary
from firsttoken.sample_schema import SAMPLES_SCHEMA
from fixtures_samples import NEW_TOKENS, ORDER, Known, Study, Table, analyse, make_study, slow_down

APPROACHES = {
    "jit_cuda": Known(7.0, processes=2),
    "baseline": Known(28.0, tainted=0.05),
    "cuda_graph": Known(120.0, status="emulated", reason="no CUDA device"),
    "jit_only": Known(5.0, wrong_by=1.0),
    "tensorrt_llm": Known(status="unavailable", reason="no engine"),
    "eager_loop": Known(25.0),
    "null": Known(0.005, 0.001, per_token_ms=0.0, process_sd=0.0),
    "null_2p": Known(0.05, 0.03, per_token_ms=0.0, process_sd=0.0),
}
OF_THE_DEVICE = ("floor", "library")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return analyse(make_study(tmp_path_factory.mktemp("study"), APPROACHES, requests=100, repeats=6))


@pytest.fixture(scope="module")
def summary(study: Study) -> Table:
    return read_table(study.table("summary"), "summary").set_index("approach")


@pytest.fixture(scope="module")
def by_length(study: Study) -> Table:
    return read_table(study.table("latency_by_length"), "latency_by_length").set_index(["approach", "prompt_length"])


def test_rows_are_in_the_given_order_without_the_instrument(summary: Table) -> None:
    assert list(summary.index) == [name for name in ORDER if name in APPROACHES]
    assert summary["control"].to_dict() == {name: name == "eager_loop" for name in summary.index}


def test_known_latencies_lie_in_their_intervals(by_length: Table) -> None:
    truth = {("baseline", 10): 28.2, ("baseline", 100): 30.0, ("jit_cuda", 10): 7.2, ("jit_cuda", 100): 9.0}
    for cell, median in truth.items():
        row = by_length.loc[cell]
        assert row["ttft_median_low_ms"] < median < row["ttft_median_high_ms"], cell
        for statistic in ("median", "p90", "p95", "p99"):
            stem = f"ttft_{statistic}"
            assert row[f"{stem}_low_ms"] <= row[f"{stem}_ms"] <= row[f"{stem}_high_ms"]
        assert row["ttft_p99_low_ms"] < median * np.exp(2.326 * 0.05) < row["ttft_p99_high_ms"]
        assert row["itl_token_gap_median_low_ms"] < 5.0 < row["itl_token_gap_median_high_ms"]


def test_the_p99_of_a_cell_is_that_of_all_its_requests(study: Study, by_length: Table) -> None:
    samples = pd.read_parquet(study.samples)
    first = samples[(samples["token_index"] == 0) & (samples["approach"] == "jit_cuda")]
    for length in (10, 100):
        values_ms = first[first["prompt_length"] == length]["latency_ns"] / 1e6
        expected = np.quantile(values_ms, 0.99, method="median_unbiased")
        assert by_length.loc[("jit_cuda", length), "ttft_p99_ms"] == pytest.approx(expected)


def test_speedup_is_the_ratio_of_the_shown_values(summary: Table, by_length: Table) -> None:
    base, fast = by_length.loc[("baseline", 10)], by_length.loc[("jit_cuda", 10)]
    assert fast["speedup_ttft"] == pytest.approx(base["ttft_mean_ms"] / fast["ttft_mean_ms"])
    assert fast["speedup_ttft_low"] < 28.2 / 7.2 < fast["speedup_ttft_high"]
    assert base["speedup_ttft"] == 1.0
    for name in ("baseline", "jit_cuda"):
        mean = by_length.loc[name]["ttft_mean_ms"].mean()
        assert summary.loc[name, "ttft_mean_ms"] == pytest.approx(mean), (
            "the mean over lengths of the per-length values"
        )
    ratio = summary.loc["baseline", "ttft_mean_ms"] / summary.loc["jit_cuda", "ttft_mean_ms"]
    assert summary.loc["jit_cuda", "speedup_ttft"] == pytest.approx(ratio), "no mean of ratios"


def test_a_failed_equality_shows_no_latency(summary: Table, by_length: Table) -> None:
    row = summary.loc["jit_only"]
    assert (row["status"], row["equivalence"]) == ("failed", "different")
    assert row["reason"].startswith("computes another function: prompt 10/0, token 2: chose a token")
    figures = [name for name in summary.columns if name.endswith("_ms") or name.startswith("speedup")]
    latencies = [name for name in figures if not name.startswith(OF_THE_DEVICE)]
    assert summary.loc["jit_only", latencies].isna().all()
    numbers = [name for name in by_length.columns if "ttft_" in name and name.endswith("_ms")]
    numbers = [name for name in numbers if not name.startswith(OF_THE_DEVICE)]
    assert by_length.loc["jit_only"][numbers].isna().all(axis=None)


def test_unavailable_and_emulated_say_so(summary: Table) -> None:
    assert (summary.loc["tensorrt_llm", "status"], summary.loc["tensorrt_llm", "reason"]) == (
        "unavailable",
        "no engine",
    )
    assert np.isnan(summary.loc["tensorrt_llm", "ttft_mean_ms"]) and summary.loc["tensorrt_llm", "n_processes"] == 0
    assert summary.loc["cuda_graph", "status"] == "emulated"
    assert not np.isnan(summary.loc["cuda_graph", "ttft_mean_ms"])


def test_taint_is_counted_and_left_out(summary: Table) -> None:
    row = summary.loc["baseline"]
    assert row["n_tainted"] > 0 and row["n_tainted"] + row["n_requests"] == 6 * 100 * 2
    assert summary.loc["jit_cuda", "n_tainted"] == 0


def test_a_process_that_lost_a_prompt_length_does_not_count_in_the_mean_over_them(tmp_path: Path) -> None:
    """Seen failing: five processes beside "too few processes"."""
    study = make_study(tmp_path, {"baseline": Known()}, requests=10)
    samples = study.root / "raw/baseline/2.parquet"
    frame = pd.read_parquet(samples)
    frame.loc[frame["prompt_length"] == 10, "tainted"] = True
    pq.write_table(pa.Table.from_pandas(frame, SAMPLES_SCHEMA), samples)
    row = read_table(analyse(study).table("summary"), "summary").set_index("approach").loc["baseline"]
    assert row["n_processes"] == 4 and np.isnan(row["ttft_mean_low_ms"])


def test_why_samples_are_tainted_is_said_and_all_of_them_leave_no_figure(tmp_path: Path) -> None:
    hot = TelemetrySummary(source="nvml", taint_reasons=("GPU throttled: hardware slowdown",))
    known = {"baseline": Known(), "jit_only": Known(tainted=1.0, record={"telemetry": hot})}
    study = analyse(make_study(tmp_path, known, requests=10))
    row = read_table(study.table("summary"), "summary").set_index("approach").loc["jit_only"]
    assert (row["n_requests"], row["n_tainted"], row["ttft_mean_note"]) == (0, 100, "all requests tainted")
    assert np.isnan(row["ttft_mean_ms"])
    assert row["remarks"] == "100 of 100 requests tainted (GPU throttled: hardware slowdown)"
    by_length: Table = read_table(study.table("latency_by_length"), "latency_by_length").set_index("approach")
    assert (by_length.loc["jit_only", "itl_token_gap_mean_note"] == "all requests tainted").all()
    assert len(pd.read_parquet(study.samples).query("approach == 'jit_only' and tainted")) == 100 * NEW_TOKENS, "kept"


def test_costs(summary: Table) -> None:
    row = summary.loc["jit_cuda"]
    assert (row["device_over_idle_gib"], row["host_peak_gib"], row["processes"]) == pytest.approx((14.0, 14.0, 2))
    assert (row["ready_s"], row["cold_ttft_ms"], row["energy_j_per_token"]) == pytest.approx((3.0, 4000.0, 1.5))
    assert summary.loc["baseline", "source_lines"] > 100 and pd.isna(row["source_lines"])


def test_how_often_the_power_limit_was_reached(tmp_path: Path) -> None:
    capped = TelemetrySummary(source="nvml", power_cap_share=0.9, sm_clock_mhz_median=1650.0)
    wrong = Known(wrong_by=1.0, tainted=0.5)  # none of its latencies is shown
    known = {"baseline": Known(), "jit_only": Known(record={"telemetry": capped}), "jit_cuda": wrong}
    study = analyse(make_study(tmp_path, known, requests=10))
    table = read_table(study.table("summary"), "summary")
    rows = table.set_index("approach")
    row = rows.loc["jit_only"]
    assert (row["power_cap_share"], row["sm_clock_mhz_median"]) == pytest.approx((0.9, 1650.0))
    said = [line for line in summary_table_text(table).splitlines() if "power limit" in line]
    assert said == ["jit_only: at the GPU's power limit in 90% of readings (SM clock 1650 MHz)"]
    assert said[0] == f"jit_only: {row['remarks']}" and rows["remarks"]["baseline"] == ""
    assert rows["n_requests"]["jit_cuda"] == 0 and rows["remarks"]["jit_cuda"] == ""


def test_costs_that_differ_between_processes_have_an_interval(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"baseline": Known()}, requests=10)
    ready_s = [10.0, 11.0, 12.0, 13.0, 20.0]
    for path, seconds in zip(study.record_files, ready_s, strict=True):
        files.write_json(path, msgspec.structs.replace(files.read_json(path, RunRecord), ready_s=seconds))
    row = read_table(analyse(study).table("summary"), "summary").iloc[0]
    assert row["ready_s"] == pytest.approx(stats.gmean(ready_s))
    expected = np.exp(stats.t.interval(0.95, 4, np.log(ready_s).mean(), stats.sem(np.log(ready_s))))
    assert (row["ready_low_s"], row["ready_high_s"]) == pytest.approx(tuple(expected))
    for name, unit in (("cold_ttft", "_ms"), ("host_peak", "_gib"), ("energy_j_per_token", "")):
        assert row[f"{name}_low{unit}"] == row[f"{name}{unit}"] == row[f"{name}_high{unit}"], "equal in all processes"


def test_memory_of_zero_is_shown_as_it_is(tmp_path: Path) -> None:
    memory = MemoryRecord(device_over_idle_bytes=2**30, device_reserved_bytes=0)
    study = analyse(make_study(tmp_path, {"baseline": Known(record={"memory": memory})}, requests=10))
    row = read_table(study.table("summary"), "summary").iloc[0]
    assert row["device_reserved_gib"] == 0 and np.isnan(row["device_reserved_low_gib"])


def test_a_slow_process_puts_the_numbers_in_doubt(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"baseline": Known(), "jit_only": Known()}, requests=40, repeats=10)
    slow_down(study.root / "raw" / "jit_only" / "4.parquet", 10)
    analyse(study)
    cells = read_table(study.table("latency_by_length"), "latency_by_length").set_index(["approach", "prompt_length"])
    found = cells["ttft_doubts"].to_dict()
    assert found.pop(("jit_only", 10)).startswith("process 4 is apart (+")
    assert set(found.values()) == {""} and (cells["itl_request_mean_doubts"] == "").all()
    summary = read_table(study.table("summary"), "summary").set_index("approach")["doubts"]
    assert summary["jit_only"] == "a process apart (TTFT)" and summary["baseline"] == ""


def test_floor_and_share(by_length: Table, summary: Table) -> None:
    row = by_length.loc[("jit_cuda", 100)]
    assert row["ttft_share_of_floor"] == pytest.approx(4.0 / row["ttft_median_ms"])
    assert row["itl_share_of_floor"] == pytest.approx(3.0 / row["itl_request_mean_median_ms"])
    assert row["library_ttft_ms"] == 6.0
    medians = by_length.loc["jit_cuda"]
    row = summary.loc["jit_cuda"]
    assert (row["floor_ttft_ms"], row["floor_itl_ms"], row["library_ttft_ms"]) == (4.0, 3.0, 6.0)
    assert row["ttft_share_of_floor"] == pytest.approx(4.0 / medians["ttft_median_ms"].mean())
    assert row["itl_share_of_floor"] == pytest.approx(3.0 / medians["itl_request_mean_median_ms"].mean())
    assert np.isnan(summary.loc["tensorrt_llm", "ttft_share_of_floor"])


def test_a_study_without_library_times_has_an_empty_column(tmp_path: Path) -> None:
    """As those that were measured before there were any."""
    study = make_study(tmp_path, {"baseline": Known()}, requests=2)
    path = study.root / "ceilings.json"
    found = files.read_json(path, Ceilings)
    floors = tuple(msgspec.structs.replace(floor, library_ttft_ms=None) for floor in found.floors)
    files.write_json(path, msgspec.structs.replace(found, floors=floors))
    table = read_table(analyse(study).table("summary"), "summary")
    assert table["library_ttft_ms"].isna().all() and (table["floor_ttft_ms"] == 4.0).all()


def test_the_instrument_has_a_table_of_its_own(study: Study) -> None:
    table: Table = read_table(study.table("instrument"), "instrument").set_index("approach")
    assert table.loc["null", "token_gap_us"] == pytest.approx(1.0, rel=0.05)
    assert table.loc["null_2p", "over_one_process_first_token_us"] == pytest.approx(45, rel=0.05)
    assert table.loc["null_2p", "over_one_process_gap_us"] == pytest.approx(29, rel=0.05)
    assert np.isnan(table.loc["null", "over_one_process_gap_us"])
    records = read_records(study.records)
    second = next(run for run in records if (run.approach, run.repeat) == ("null", 2))
    records[records.index(second)] = msgspec.structs.replace(second, status="failed", reason="broke")
    statuses = instrument_table(study.tables().statistics, records).set_index("approach")["status"]
    assert statuses["null"] == "failed", "of all processes; seen to be that of the first"


def test_what_was_not_recorded_is_no_small_sample(study: Study) -> None:
    """Seen failing: "n too small" for memory that nobody recorded."""
    processes = ProcessTable(study.tables().statistics)
    assert processes.ratio("jit_cuda", "baseline", "memory", "mean", processes.lengths).note == "no values"
    assert processes.estimate("nobody", "ttft", "p99", processes.lengths).note == "n too small"


def test_too_few_processes_and_n_too_small_are_said(tmp_path: Path) -> None:
    study = analyse(make_study(tmp_path, {"baseline": Known(), "jit_only": Known()}, requests=30, repeats=4))
    table = read_table(study.table("latency_by_length"), "latency_by_length")
    assert (table["ttft_mean_note"] == "too few processes").all() and table["ttft_mean_low_ms"].isna().all()
    assert table["ttft_mean_ms"].notna().all(), "the value stands, only its interval is missing"
    assert (table["ttft_p99_note"] == "n too small").all() and table["ttft_p99_ms"].isna().all()
    summary = read_table(study.table("summary"), "summary")
    assert (summary["ttft_mean_note"] == "too few processes").all() and (
        summary["ttft_p99_note"] == "n too small"
    ).all()
    assert summary["speedup_ttft"].notna().all() and summary["speedup_ttft_low"].isna().all()


def test_one_failed_process_fails_its_approach(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"baseline": Known()}, requests=10, repeats=2)
    broken = make_study(
        tmp_path / "broken", {"baseline": Known(status="failed", reason="out of memory")}, requests=10, repeats=3
    )
    for name in ("3.json", "3.parquet", "3.tokens.json"):
        (study.root / "raw" / "baseline" / name).write_bytes((broken.root / "raw" / "baseline" / name).read_bytes())
    row = read_table(analyse(study).table("summary"), "summary").iloc[0]
    assert row["status"] == "failed" and row["reason"] == "1 of 3 processes, first repeat 3: out of memory"


def test_a_study_in_which_nothing_ran(tmp_path: Path) -> None:
    study = analyse(make_study(tmp_path, {"jit_cuda": Known(status="unavailable", reason="no")}, repeats=1))
    assert list(read_table(study.table("summary"), "summary")["status"]) == ["unavailable"]
    assert len(read_table(study.table("latency_by_length"), "latency_by_length")) == 2
    assert read_table(study.table("process_statistics"), "process_statistics").empty
