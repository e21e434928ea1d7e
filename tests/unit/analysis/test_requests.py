"""The split of pooled samples into metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.requests import process_statistics, read_requests
from firsttoken.pooled_runs import write_pooled
from firsttoken.sample_schema import SAMPLES_SCHEMA
from fixtures_samples import Known, Table, make_study, pool


def plain_samples(frame: Table, metric: str) -> pd.Series:
    """The definition of a metric, slowly, one request at a time."""
    found = {}
    for key, request in frame.groupby(["approach", "repeat", "prompt_length", "request"]):
        if request["tainted"].any():
            continue
        ms = request.set_index("token_index")["latency_ns"] / 1e6
        gaps = ms.drop(0)
        found[key] = {"ttft": [ms[0]], "itl_token_gap": gaps.tolist(), "itl_request_mean": [gaps.mean()]}[metric]
    by_cell: dict[tuple[object, ...], list[float]] = {}
    for key, values in found.items():
        by_cell.setdefault(key[:3], []).extend(values)
    return pd.Series({key: np.mean(values) for key, values in by_cell.items()})


def test_metrics_are_their_definitions_and_taint_leaves_out_whole_requests(tmp_path: Path) -> None:
    study = pool(make_study(tmp_path, {"baseline": Known(tainted=0.2), "jit_only": Known()}, requests=20, repeats=2))
    frame = pd.read_parquet(study.samples)
    # One token of an otherwise clean request is enough to leave it out.
    clean = frame[(frame["approach"] == "jit_only") & (frame["repeat"] == 1) & (frame["request"] == 3)]
    frame.loc[clean.index[2], "tainted"] = True
    write_pooled(pa.Table.from_pandas(frame, SAMPLES_SCHEMA), study.samples)
    requests = read_requests(study.samples)
    table = process_statistics(requests)
    for metric in ("ttft", "itl_token_gap", "itl_request_mean"):
        means = table[(table["metric"] == metric) & (table["statistic"] == "mean")]
        found = means.set_index(["approach", "repeat", "prompt_length"])["value"]
        expected = plain_samples(frame, metric)
        assert found.to_dict() == pytest.approx(expected.to_dict())
    tainted = requests.cells.groupby("approach")["tainted"].sum()
    one_each = frame[frame["tainted"]].drop_duplicates(["approach", "repeat", "request"])
    whole = one_each["approach"].value_counts()
    assert tainted.to_dict() == whole.to_dict()
    assert tainted["jit_only"] == 1


def test_a_quantile_that_the_data_do_not_carry_is_missing(tmp_path: Path) -> None:
    few = process_statistics(
        read_requests(pool(make_study(tmp_path / "a", {"baseline": Known()}, requests=70)).samples)
    )
    p99 = few[(few["metric"] == "ttft") & (few["statistic"] == "p99")]["value"]
    assert p99.isna().all(), "5 x 70 = 350 pooled samples are fewer than the 368 of P99"
    large = pool(make_study(tmp_path / "b", {"baseline": Known()}))
    enough = process_statistics(read_requests(large.samples))
    p99 = enough[(enough["metric"] == "ttft") & (enough["statistic"] == "p99")]["value"]
    assert p99.notna().all(), "5 x 80 = 400 carry it"


def test_a_study_without_samples_is_empty(tmp_path: Path) -> None:
    approaches = {"jit_cuda": Known(status="unavailable", reason="no")}
    requests = read_requests(pool(make_study(tmp_path, approaches, repeats=1)).samples)
    assert process_statistics(requests).empty


def test_a_process_without_a_length_does_not_count_over_lengths(tmp_path: Path) -> None:
    study = pool(make_study(tmp_path, {"baseline": Known()}, repeats=6))
    table = process_statistics(read_requests(study.samples))
    lost = (table["repeat"] == 3) & (table["prompt_length"] == 100) & (table["metric"] == "ttft")
    table.loc[lost, "value"] = np.nan
    processes = ProcessTable(table)
    assert processes.estimate("baseline", "ttft", "mean", [10, 100]).n == 5
    assert processes.estimate("baseline", "ttft", "mean", [10]).n == 6
    assert processes.ratio("baseline", "baseline", "ttft", "mean", [10, 100]) == (1.0, 1.0, 1.0, 5, "")
    assert np.isnan(processes.ratio("baseline", "jit_only", "ttft", "mean", [10]).value)
