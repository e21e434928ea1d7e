"""Known effects of graphs, JIT and the second process are found, and not invented where a control is missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firsttoken.analysis.effects import CONTRASTS, estimate_effects
from firsttoken.analysis.schemas import read_table
from fixtures_samples import Known, Study, analyse, make_study

# Graphs halve the time, JIT takes off 20 %, together 10 % more than that; late reading takes off 5 %, and the second
# process costs 1 ms.
GRAPHS, JIT, INTERACTION, LATE, PROCESS_MS = 0.5, 0.8, 0.9, 0.95, 1.0
BASE = 40.0
MS = {
    "eager_loop": BASE,
    "jit_only": BASE * JIT,
    "cuda_graph_1p": BASE * GRAPHS,
    "jit_cuda_1p": BASE * GRAPHS * JIT * INTERACTION,
    "cuda_graph": BASE * GRAPHS + PROCESS_MS,
    "jit_cuda_1p_ahead": BASE * GRAPHS * JIT * INTERACTION * LATE,
    "jit_cuda": BASE * GRAPHS * JIT * INTERACTION * LATE + PROCESS_MS,
}
AHEAD = {"cuda_graph": 1, "jit_cuda": 1, "jit_cuda_1p_ahead": 1}


def known(**ahead: int | None) -> dict[str, Known]:
    """`ahead` are approaches that read their tokens otherwise than they should, or do not say how."""
    late = dict.fromkeys(MS, 0) | AHEAD | ahead
    return {name: Known(ms, per_token_ms=0, request_sd=0.02, record={"ahead": late[name]}) for name, ms in MS.items()}


def effects(study: Study) -> pd.DataFrame:
    out = study.table("effects")
    estimate_effects(study.tables(), out)
    return read_table(out, "effects")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return effects(analyse(make_study(tmp_path_factory.mktemp("effects"), known(), requests=20, repeats=8)))


@pytest.mark.parametrize(
    ("effect", "ratio"),
    [
        ("graphs_without_jit", GRAPHS),
        ("jit_without_graphs", JIT),
        ("graphs", GRAPHS * INTERACTION**0.5),
        ("jit", JIT * INTERACTION**0.5),
        ("interaction", INTERACTION),
        ("reading_ahead", LATE),
    ],
)
def test_known_effects_lie_in_their_intervals(table: pd.DataFrame, effect: str, ratio: float) -> None:
    rows = table[(table["effect"] == effect) & (table["metric"] == "ttft")]
    assert list(rows["prompt_length"]) == [0, 10, 100]
    overall = rows.iloc[0]
    assert overall["status"] == "measured" and overall["n_repeats"] == 8
    assert overall["ratio_low"] < ratio < overall["ratio_high"]
    assert overall["ratio_high"] / overall["ratio_low"] < 1.1


def test_the_price_of_the_second_process_is_in_ms(table: pd.DataFrame) -> None:
    row = table[(table["effect"] == "second_process") & (table["metric"] == "ttft")].iloc[0]
    assert row["difference_low_ms"] < PROCESS_MS < row["difference_high_ms"]


def test_gaps_have_no_effect_when_all_are_alike(table: pd.DataFrame) -> None:
    rows = table[(table["metric"] == "itl_request_mean") & (table["prompt_length"] == 0)]
    assert (rows["ratio"] - 1).abs().max() < 0.03


@pytest.mark.parametrize(
    ("lost", "word"),
    [
        ({"eager_loop": Known(status="unavailable", reason="x")}, "eager_loop is unavailable"),
        ({"eager_loop": Known(40.0, status="emulated", reason="x")}, "eager_loop is emulated"),
    ],
)
def test_an_effect_without_its_control_is_not_identifiable(tmp_path: Path, lost: dict[str, Known], word: str) -> None:
    found = effects(analyse(make_study(tmp_path, known() | lost, requests=5))).query("prompt_length == 0")
    for name in ("graphs", "jit", "interaction", "graphs_without_jit"):
        row = found[found["effect"] == name].iloc[0]
        assert row["status"] == "not identifiable" and word in row["reason"] and np.isnan(row["ratio"])
    assert (found[found["effect"] == "jit_with_graphs"]["status"] == "measured").all(), "its controls are there"


@pytest.mark.parametrize(
    ("ahead", "lost", "reason"),
    [
        (
            {"cuda_graph_1p": 1},
            {"graphs_without_jit", "jit_with_graphs", "graphs", "jit", "interaction"},
            "steps by which tokens are read late: cuda_graph_1p 1, eager_loop 0; this contrast needs at once",
        ),
        (
            {"jit_cuda_1p_ahead": 0},
            {"reading_ahead", "second_process"},
            "steps by which tokens are read late: jit_cuda_1p_ahead 0, jit_cuda_1p 0; this contrast needs late against "
            "at once",
        ),
        (
            {"jit_cuda": None},
            {"second_process"},
            "not recorded how many steps late jit_cuda read each token",
        ),
    ],
)
def test_approaches_that_also_differ_in_late_reading_show_no_effect(
    tmp_path: Path, ahead: dict[str, int | None], lost: set[str], reason: str
) -> None:
    found = effects(analyse(make_study(tmp_path, known(**ahead), requests=5)))
    assert set(found.loc[found["status"] == "not identifiable", "effect"]) == lost
    assert found.loc[found["status"] == "not identifiable", "reason"].iloc[0] == reason
    assert found.loc[found["effect"].isin(lost), "ratio"].isna().all()


def test_controls_that_are_not_in_the_study(tmp_path: Path) -> None:
    found = effects(analyse(make_study(tmp_path, {"baseline": Known(), "jit_only": Known()}, requests=5)))
    assert (found["status"] == "not identifiable").all()
    assert found["reason"].str.contains("not in this study").all()


def test_too_few_repeats_have_no_interval(tmp_path: Path) -> None:
    row = effects(analyse(make_study(tmp_path, known(), requests=5, repeats=3))).iloc[0]
    assert row["reason"] == "too few processes" and np.isnan(row["ratio_low"]) and row["ratio"] > 0


def test_contrasts_sum_to_zero() -> None:
    for contrast in CONTRASTS:
        assert sum(contrast.weights.values()) == 0, contrast.name
