"""The twelve rules: met by a good study, and each seen to be missed by one that lacks what it asks for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from firsttoken import files
from firsttoken.analysis.answer import write_answer
from firsttoken.analysis.checklist import write_checklist
from firsttoken.analysis.schemas import read_table
from firsttoken.results import Ceilings, Environment
from fixtures_samples import Known, Study, Table, analyse, make_study

NULL = Known(0.005, 0.001, per_token_ms=0.0)
FIGURES = ("latency_ecdf", "run_order", "memory")


def checked(study: Study, figures: tuple[str, ...] = FIGURES) -> Table:
    out = study.table("checklist")
    write_checklist(study.tables(), figures, out)
    return read_table(out, "checklist").set_index("rule")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Study:
    known = {"baseline": Known(28.0), "jit_cuda": Known(15.0), "null": NULL}
    return analyse(make_study(tmp_path_factory.mktemp("good"), known, repeats=10, seed=3))


def test_a_good_study_meets_the_rules(good: Study) -> None:
    found = checked(good)
    assert list(found.index) == list(range(1, 13))
    assert found["met"].eq("yes").all(), found
    assert "28" in found.loc[1, "evidence"] or "29" in found.loc[1, "evidence"]
    assert "at most 0.0" in found.loc[3, "evidence"]


def edit_table(study: Study, name: str, column: str, value: object, approach: str | None = None) -> None:
    """Set a column of a table, in the rows of one approach or in all."""
    table: Table = pd.read_csv(study.table(name), keep_default_na=False, na_values=[""])  # "null" is an approach
    table[column] = table[column].astype(object)
    table.loc[table["approach"].eq(approach) | (approach is None), column] = value
    table.to_csv(study.table(name), index=False)


def edit_json(study: Study, name: str, kind: type[msgspec.Struct], **changes: object) -> None:
    path = study.root / name
    files.write_json(path, msgspec.structs.replace(files.read_json(path, kind), **changes))


def scale_one_process(study: Study, factor: float) -> None:
    """Its means, as if one of ten processes had been slower."""
    table = pd.read_csv(study.table("process_statistics"))
    table.loc[table["repeat"] == 10, "value"] *= factor
    table.to_csv(study.table("process_statistics"), index=False)


Damage = Callable[[Study], None]
DAMAGES: dict[str, tuple[int, str, Damage]] = {  # what is wrong -> the rule that sees it, its verdict, how it was done
    "the base has no time": (1, "no", lambda s: edit_table(s, "summary", "ttft_mean_ms", None, "baseline")),
    "a failure without a reason": (2, "no", lambda s: edit_table(s, "summary", "status", "failed", "jit_cuda")),
    "processes far apart": (3, "partly", lambda s: scale_one_process(s, 3)),
    "no process has a mean": (3, "no", lambda s: edit_table(s, "process_statistics", "value", 0.0)),
    "a mean of ratios": (4, "no", lambda s: edit_table(s, "summary", "speedup_ttft", 1.9, "jit_cuda")),
    "one without an interval": (5, "partly", lambda s: edit_table(s, "summary", "ttft_mean_low_ms", None, "jit_cuda")),
    "no intervals": (5, "no", lambda s: edit_table(s, "summary", "ttft_mean_low_ms", None)),
    "a process apart from the others": (6, "partly", lambda s: scale_one_process(s, 1.5)),
    "processes without spread": (6, "no", lambda s: edit_table(s, "process_statistics", "value", 20.0)),
    "a speedup without an interval": (7, "no", lambda s: edit_table(s, "summary", "speedup_ttft_low", None)),
    "no P99": (8, "no", lambda s: edit_table(s, "latency_by_length", "ttft_p99_ms", None)),
    "one approach without P99": (
        8, "partly", lambda s: edit_table(s, "latency_by_length", "ttft_p99_ms", None, "jit_cuda")),
    "a P99 of a cell without an interval": (
        8, "no", lambda s: edit_table(s, "latency_by_length", "ttft_p99_low_ms", None, "jit_cuda")),
    "a P99 of an approach without an interval": (
        8, "no", lambda s: edit_table(s, "summary", "ttft_p99_high_ms", None, "jit_cuda")),
    "no packages": (9, "no", lambda s: edit_json(s, "environment.json", Environment, packages={})),
    "no commit": (9, "no", lambda s: edit_json(s, "environment.json", Environment, git_commit="unknown")),
    "no driver": (9, "no", lambda s: edit_json(s, "environment.json", Environment, driver="")),
    "no GPU": (9, "no", lambda s: edit_json(s, "environment.json", Environment, gpu=None)),
    "a changed tree": (9, "partly", lambda s: edit_json(s, "environment.json", Environment, git_dirty=True)),
    "an instrument that costs nothing": (10, "no", lambda s: edit_table(s, "instrument", "token_gap_us", 0.0, "null")),
    "an instrument that was not timed": (10, "no", lambda s: edit_table(s, "instrument", "token_gap_us", None, "null")),
    "an instrument as slow as a tenth of a token": (
        10, "no", lambda s: edit_table(s, "instrument", "token_gap_us", 501.0, "null")),
    "an instrument as slow as a tenth of a first token": (
        10, "no", lambda s: edit_table(s, "instrument", "first_token_us", 1900.0, "null")),
    "faster than its floor": (
        11, "no", lambda s: edit_table(s, "latency_by_length", "ttft_share_of_floor", 1.01, "jit_cuda")),
    "tokens faster than their floor": (
        11, "no", lambda s: edit_table(s, "latency_by_length", "itl_share_of_floor", 1.01, "jit_cuda")),
    "no floors": (11, "no", lambda s: edit_table(s, "latency_by_length", "ttft_share_of_floor", None)),
    "weights in the cache": (
        11, "partly", lambda s: edit_json(s, "ceilings.json", Ceilings, weights_fit_in_cache=True)),
    "nothing to draw": (12, "no", lambda s: edit_table(s, "latency_by_length", "n_requests", 0)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_rule_sees_what_it_asks_for(good: Study, tmp_path: Path, damage: str) -> None:
    rule, verdict, spoil = DAMAGES[damage]
    shutil.copytree(good.root, tmp_path / "study")
    study = Study(tmp_path / "study")
    spoil(study)
    assert checked(study).loc[rule, "met"] == verdict


def test_every_rule_has_a_damage() -> None:
    assert {rule for rule, _, _ in DAMAGES.values()} == set(range(1, 13))


def test_an_instrument_of_negative_cost_is_refused(good: Study, tmp_path: Path) -> None:
    shutil.copytree(good.root, tmp_path / "study")
    study = Study(tmp_path / "study")
    edit_table(study, "instrument", "token_gap_us", -1.0, "null")
    with pytest.raises(ValueError, match="token_gap_us"):
        checked(study)


def test_every_rule_can_be_missed(good: Study, tmp_path: Path) -> None:
    """One study in which everything is wrong at once: nothing in the checklist is always "yes"."""
    known = {"jit_cuda": Known(process_sd=0.3), "tensorrt_llm": Known(status="unavailable")}
    study = make_study(tmp_path, known, requests=5, repeats=3)
    path = study.root / "ceilings.json"
    files.write_json(path, msgspec.structs.replace(files.read_json(path, Ceilings), floors=()))
    path = study.root / "environment.json"
    files.write_json(path, msgspec.structs.replace(files.read_json(path, Environment), git_commit="unknown"))
    found = checked(analyse(study), ())["met"]
    assert found.to_dict() == {rule: "partly" if rule in (3, 10) else "no" for rule in range(1, 13)}
    assert (checked(good)["met"] != found).all()


def test_without_a_baseline_there_is_no_base_case(tmp_path: Path) -> None:
    found = checked(analyse(make_study(tmp_path, {"jit_cuda": Known(), "jit_only": Known()}, requests=10)))
    assert found.loc[[1, 4, 7], "met"].eq("no").all()
    assert found.loc[10, "met"] == "partly", "the instrument was not measured"


def test_few_processes_and_samples_are_not_enough(tmp_path: Path) -> None:
    found = checked(analyse(make_study(tmp_path, {"baseline": Known(), "jit_cuda": Known()}, requests=10, repeats=3)))
    assert found.loc[[5, 6, 7, 8], "met"].eq("no").all()
    assert "0 of 2 mean TTFTs" in found.loc[5, "evidence"]


def test_five_processes_say_little_about_normality(tmp_path: Path) -> None:
    found = checked(analyse(make_study(tmp_path, {"baseline": Known(), "jit_cuda": Known()}, requests=10)))
    assert found.loc[6, "met"] == "partly"


def test_process_means_that_are_not_normal_are_seen(good: Study, tmp_path: Path) -> None:
    """One of ten processes takes three times as long (the same seed gives the same reference)."""
    odd = make_study(tmp_path, {"baseline": Known(28.0)}, requests=20, repeats=9, seed=3)
    slow = make_study(tmp_path / "slow", {"baseline": Known(84.0)}, requests=20, repeats=10, seed=3)
    for path in (slow.root / "raw" / "baseline").glob("10.*"):
        if path.is_file():
            (odd.root / "raw" / "baseline" / path.name).write_bytes(path.read_bytes())
    assert checked(analyse(odd)).loc[6, "met"] == "partly"


def test_an_approach_whose_requests_are_all_tainted_has_no_latencies(tmp_path: Path) -> None:
    study = analyse(make_study(tmp_path, {"baseline": Known(), "jit_cuda": Known(tainted=1.0)}, requests=10))
    assert checked(study).loc[2, "evidence"].startswith("approaches without latencies: 1; ")


def test_an_absence_without_a_reason(tmp_path: Path) -> None:
    known = {"baseline": Known(), "tensorrt_llm": Known(status="unavailable")}
    found = checked(analyse(make_study(tmp_path, known, requests=10)))
    assert found.loc[2, "met"] == "no" and "tensorrt_llm" in found.loc[2, "evidence"]


def test_a_changed_tree_a_cached_model_and_missing_figures_are_partly(tmp_path: Path) -> None:
    study = analyse(make_study(tmp_path, {"baseline": Known()}, requests=10))
    path = study.root / "environment.json"
    files.write_json(path, msgspec.structs.replace(files.read_json(path, Environment), git_dirty=True))
    path = study.root / "ceilings.json"
    files.write_json(path, msgspec.structs.replace(files.read_json(path, Ceilings), weights_fit_in_cache=True))
    found = checked(study, ("run_order",))
    assert found.loc[[9, 11, 12], "met"].eq("partly").all()
    assert checked(study, ()).loc[12, "met"] == "no"


def test_an_approach_that_ran_after_all_others_is_seen(tmp_path: Path) -> None:
    late = Known(record={"started_at": "2026-01-02T00:00:00+00:00"})
    study = analyse(make_study(tmp_path, {"baseline": Known(), "jit_cuda": late}, requests=10))
    found = checked(study)
    assert found.loc[9, "met"] == found.loc[7, "met"] == "partly"
    assert found.loc[7, "evidence"].endswith("but the approaches did not take turns")
    assert "not interleaved: baseline/5 ran before jit_cuda/1" in found.loc[9, "evidence"]
    write_answer(study.tables(), tmp_path / "answer.txt")
    said = (tmp_path / "answer.txt").read_text().splitlines()[-1]
    assert said.startswith("The approaches did not take turns: baseline/5 ran before jit_cuda/1. ")


def test_without_floors_the_bounds_are_not_shown(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"baseline": Known()}, requests=10)
    path = study.root / "ceilings.json"
    files.write_json(path, msgspec.structs.replace(files.read_json(path, Ceilings), floors=()))
    assert checked(analyse(study)).loc[11, "met"] == "no"
