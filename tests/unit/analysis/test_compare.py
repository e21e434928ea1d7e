"""Two studies: what became faster or slower, what cannot be compared, and what counts as a regression."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from firsttoken import files
from firsttoken.analysis.compare import Comparison, _regressions, compare_studies, in_words
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.schemas import read_table
from firsttoken.results import Environment, Gpu, RunRecord
from fixtures_samples import BOUNDS, H200, Known, Study, Table, analyse, make_study, pool

FIRST = {"baseline": Known(28.0, per_token_ms=0), "jit_cuda": Known(15.0, per_token_ms=0)}


def made(root: Path, approaches: dict[str, Known], **options: object) -> Study:
    return analyse(make_study(root, approaches, **({"requests": 80} | options)))  # type: ignore[arg-type]


def compared(root: Path, a: Study, b: Study, threshold: float = 0.05) -> tuple[Table, Comparison]:
    out = root / "comparison.csv", root / "comparison.json"
    compare_studies(a.root, b.root, BOUNDS, threshold, *out)
    return read_table(out[0], "comparison"), files.read_json(out[1], Comparison)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return made(tmp_path_factory.mktemp("first"), FIRST)


def test_the_same_again_shows_no_regression(first: Study, tmp_path: Path) -> None:
    table, found = compared(tmp_path, first, made(tmp_path / "b", FIRST, seed=7))
    assert found.verdict == "no regression" and found.comparisons == 2 * 2 * 4
    assert (table["ratio"].between(0.9, 1.1)).all()


def test_faster_and_slower_are_seen_with_their_ratio(first: Study, tmp_path: Path) -> None:
    changed = {"baseline": Known(22.4, per_token_ms=0), "jit_cuda": Known(18.0, per_token_ms=0)}
    table, found = compared(tmp_path, first, made(tmp_path / "b", changed, seed=7))
    ttft = table[table["metric"] == "ttft"].set_index(["approach", "statistic", "prompt_length"])
    row = ttft.loc[("baseline", "mean", 10)]
    assert row["verdict"] == "faster" and row["ratio_low"] < 0.8 < row["ratio_high"]
    assert ttft.loc[("jit_cuda", "mean", 10), "verdict"] == "slower"
    assert found.verdict == "regression" and found.slower >= 2
    assert all(line.startswith("jit_cuda TTFT") for line in found.regressions), (
        "gaps and the baseline did not get slower"
    )


def test_a_slowdown_within_the_threshold_is_no_regression(first: Study, tmp_path: Path) -> None:
    changed = FIRST | {"jit_cuda": Known(18.0, per_token_ms=0)}
    b = made(tmp_path / "b", changed, seed=7)
    assert compared(tmp_path, first, b, threshold=0.3)[1].verdict == "no regression"
    assert compared(tmp_path, first, b, threshold=0.1)[1].verdict == "regression"


def test_many_looks_give_no_false_alarm() -> None:
    """Sixty comparisons of noise alone: without the correction most gates would fail by chance."""
    rng, studies, looks = np.random.default_rng(11), 40, 60
    alarms = {looks: 0, 1: 0}
    keys = pd.MultiIndex.from_product([range(looks), range(5)], names=["prompt_length", "repeat"]).to_frame(index=False)
    rows = keys.assign(approach="a", metric="ttft", statistic="mean")
    cells = rows[rows["repeat"] == 0].assign(ratio_low=1.0)
    for _ in range(studies):
        a, b = (ProcessTable(rows.assign(value=np.exp(rng.normal(0, 0.2, len(rows))))) for _ in "ab")
        for corrected_for in alarms:
            alarms[corrected_for] += bool(_regressions(a, b, cells, corrected_for, 1e-9))
    assert alarms[looks] / studies < 0.1 and alarms[1] / studies > 0.5, alarms


def test_the_verdict_in_words(first: Study, tmp_path: Path) -> None:
    slow = made(tmp_path / "b", FIRST | {"jit_cuda": Known(45.0, per_token_ms=0)}, seed=7)
    text = in_words(compared(tmp_path, first, slow)[1])
    assert text.startswith("4 regressions beyond 5%: jit_cuda TTFT mean at 10 tokens takes 3.0")
    assert "corrected for 16 comparisons" in text and text.count("times as long") == 2 and "and 2 more. Of 16 " in text
    assert in_words(compared(tmp_path, slow, first)[1]).startswith("No regression beyond 5%. Of 16 comparisons ")
    change_environment(slow, driver="580.2")
    assert in_words(compared(tmp_path, first, slow)[1]).startswith("Side by side: other driver: 570.1 and 580.2 (")


def test_a_shipped_study_needs_no_table_but_that_of_positions(first: Study, tmp_path: Path) -> None:
    shipped = made(tmp_path / "b", FIRST, requests=5)
    for path in shipped.root.glob("tables/*"):
        if path.name != "equality_positions.csv":
            path.unlink()
    shutil.rmtree(shipped.root / "raw")
    assert compared(tmp_path, shipped, first)[1].verdict == "no regression"


def test_an_approach_that_no_longer_runs_is_a_regression(first: Study, tmp_path: Path) -> None:
    changed = FIRST | {"jit_cuda": Known(status="failed", reason="broke")}
    table, found = compared(tmp_path, first, made(tmp_path / "b", changed))
    assert found.verdict == "regression" and found.regressions == ("jit_cuda was measured and is failed",)
    lost = table[table["approach"] == "jit_cuda"]
    assert (lost["verdict"] == "not comparable").all() and (lost["reason"] == "jit_cuda is failed in b").all()


def test_an_approach_that_is_no_longer_measured_is_a_regression(first: Study, tmp_path: Path) -> None:
    """Seen failing: an approach that had become approximate was in no comparison, and there was no regression."""
    changed = made(tmp_path / "b", FIRST | {"jit_cuda": Known(90.0, status="approximate")})
    found = compared(tmp_path, first, changed)[1]
    assert found.verdict == "regression" and found.regressions == ("jit_cuda was measured and is approximate",)
    assert compared(tmp_path, changed, first)[1].verdict == "no regression"


def test_an_approach_that_lost_its_latencies_is_a_regression(first: Study, tmp_path: Path) -> None:
    """Seen failing: no regression, of eight comparisons instead of sixteen."""
    found = compared(tmp_path, first, made(tmp_path / "b", FIRST | {"jit_cuda": Known(15.0, tainted=1.0)}))[1]
    assert found.verdict == "regression" and len(found.regressions) == 1
    assert found.regressions[0].startswith("jit_cuda had a process with untainted requests at every prompt length")


def test_without_a_gpu_other_threads_are_another_workload(tmp_path: Path) -> None:
    a, b = (made(tmp_path / name, {"baseline": Known(28.0)}, requests=5, gpu=None) for name in "ab")
    change_environment(b, threads=7)
    assert compared(tmp_path, a, b)[1].reasons == ("other threads: 2 and 7",)


def other_gpu(study: Study) -> None:
    gpu = Gpu(name="NVIDIA H100", uuid="x", memory_bytes=1, compute_capability="9.0")
    change_environment(study, gpu=gpu)


def change_environment(study: Study, **changes: object) -> None:
    path = study.root / "environment.json"
    files.write_json(path, msgspec.structs.replace(files.read_json(path, Environment), **changes))


def other_model(study: Study) -> None:
    for path in study.record_files:
        files.write_json(path, msgspec.structs.replace(files.read_json(path, RunRecord), model_hash="m2"))
    pool(study)


def other_workload(study: Study) -> None:
    files.write_text(study.root / "config.yaml", "workload: {new_tokens: 99}\n")


def paused(study: Study) -> None:
    files.write_text(study.root / "config.yaml", "workload: {pause_ms: 500}\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_gpu, "other GPU: NVIDIA H200 and NVIDIA H100"),
        (lambda study: change_environment(study, driver="580.2"), "other driver: 570.1 and 580.2"),
        (other_model, "other model: m1 and m2"),
        (other_workload, "other new_tokens: unknown and 99"),
        (paused, "other pause_ms: 0 and 500"),
    ],
)
def test_other_models_gpus_and_drivers_stand_side_by_side(first: Study, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    b = made(tmp_path / "b", FIRST | {"jit_cuda": Known(90.0)}, requests=5)
    change(b)
    table, found = compared(tmp_path, first, b)
    assert found.verdict == "side by side" and found.reasons == (message,) and found.regressions == ()
    assert (table["verdict"] == "side by side").all() and table["ratio"].notna().any(), "jit_cuda is far slower"
    assert message in in_words(found) and "no regression is judged" in in_words(found)
    assert len(found.cells) == len(table)


def test_numbers_are_compared_as_numbers(first: Study, tmp_path: Path) -> None:
    b = made(tmp_path / "b", FIRST, requests=5)
    files.write_text(b.root / "config.yaml", "workload: {pause_ms: 0.0}\n")
    assert compared(tmp_path, first, b)[1].verdict == "no regression"


def test_the_same_gpu_model_of_another_host_is_comparable(first: Study, tmp_path: Path) -> None:
    b = made(tmp_path / "b", FIRST, requests=5)
    change_environment(b, gpu=msgspec.structs.replace(H200, uuid="other"), cpu="Another CPU")
    assert compared(tmp_path, first, b)[1].verdict == "no regression"


def test_nothing_in_common_is_not_a_pass(first: Study, tmp_path: Path) -> None:
    table, found = compared(tmp_path, first, made(tmp_path / "b", FIRST, lengths=(20,), requests=5))
    assert found.verdict == "not comparable" and "in common" in found.reasons[0]
    assert set(table["prompt_length"]) == {10, 20, 100}
    _, few = compared(tmp_path, first, made(tmp_path / "c", FIRST, requests=5, repeats=3))
    assert few.verdict == "not comparable"


def test_emulated_figures_carry_the_word(tmp_path: Path) -> None:
    emulated = {"baseline": Known(), "jit_cuda": Known(15.0, status="emulated", reason="no graphs")}
    a, b = (made(tmp_path / name, emulated, requests=5) for name in "ab")
    table, _ = compared(tmp_path, a, b)
    assert table.loc[table["a_ms"].notna(), ["approach", "status"]].drop_duplicates().to_numpy().tolist() == [
        ["baseline", "measured"],
        ["jit_cuda", "emulated"],
    ]


def test_an_emulated_approach_is_not_compared_with_a_measured_one(first: Study, tmp_path: Path) -> None:
    changed = FIRST | {"jit_cuda": Known(15.0, status="emulated", reason="no graphs")}
    table, _ = compared(tmp_path, first, made(tmp_path / "b", changed, requests=5))
    row = table[table["approach"] == "jit_cuda"].iloc[0]
    assert row["verdict"] == "not comparable" and row["reason"] == "jit_cuda is measured in a and emulated in b"
    assert np.isnan(row["ratio"]) and row["status"] == "measured and emulated"
