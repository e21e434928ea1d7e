"""Every claim gets the right verdict on studies whose truth is known, and none says more than was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from fakes.claim_studies import AS_CLAIMED, LENGTHS, LLAMA, THEIR_GPU, invented, judged, readings, takes
from firsttoken.analysis.schemas import read_table, write_table
from fixtures_samples import H200, Known, Study, analyse, make_study, slow_down

# P99 in the published order; the other figures do not matter here.
P99_AS_CLAIMED = {
    name: takes(ms)
    for name, ms in zip(
        ("jit_cuda", "cuda_graph", "tensorrt_llm", "baseline", "jit_only"), (5, 9, 16, 30, 60), strict=True
    )
}
OPPOSITE = {
    "baseline": takes(20.0, memory_gib=10),
    "cuda_graph": takes(15.0, memory_gib=16),
    "jit_only": takes(12.0, memory_gib=15),
    "jit_cuda": takes(40.0, memory_gib=20),
    "tensorrt_llm": takes(45.0, memory_gib=22),
}
LINES_AS_CLAIMED = {"baseline": 100, "jit_only": 110, "cuda_graph": 200, "tensorrt_llm": 210, "jit_cuda": 300}
OF_SAMPLES = (
    "best_overall", "speedup_4_48", "graphs_alone_struggle", "jit_is_crucial", "ttft_order", "p99_order",
    "memory_order", "reduction_66",
)  # fmt: skip
SPEEDUP: dict[str, Any] = {"kind": "figure", "metric": "ttft_mean", "operands": ["baseline", "jit_cuda"]}


def with_lines(study: Study, lines: dict[str, int]) -> Study:
    """The same summary with these source lines."""
    table = read_table(study.table("summary"), "summary")
    table["source_lines"] = table["approach"].map(lines).astype("Int64")
    write_table(table, "summary", study.table("summary"))
    return study


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Of studies that bear all claims out, or all but the order of P99; of the opposite; of too few; without a GPU."""

    def made(known: dict[str, Known], lines: dict[str, int], **options: Any) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("verdicts")
        study = analyse(make_study(folder, known, lengths=options.pop("lengths", LENGTHS), **options))
        return judged(with_lines(study, lines))

    turned = dict(zip(LINES_AS_CLAIMED, reversed(LINES_AS_CLAIMED.values()), strict=True))
    return {
        "as claimed": made(AS_CLAIMED, LINES_AS_CLAIMED, seed=2),
        "p99 as claimed": made(P99_AS_CLAIMED, LINES_AS_CLAIMED, seed=2),
        "opposite": made(OPPOSITE, turned, seed=2),
        "few": made(AS_CLAIMED, LINES_AS_CLAIMED, repeats=4),
        "no gpu": made(AS_CLAIMED, LINES_AS_CLAIMED, gpu=None, lengths=(10, 100)),
    }


@pytest.mark.parametrize("claim", OF_SAMPLES)
def test_every_claim_of_samples_can_get_every_verdict(claim: str, verdicts: dict[str, dict[str, str]]) -> None:
    assert verdicts["p99 as claimed" if claim == "p99_order" else "as claimed"][claim] == "reproduced"
    assert verdicts["opposite"][claim] == "refuted"
    few = "not testable here" if claim == "p99_order" else "inconclusive"  # four processes: no P99
    assert verdicts["few"][claim] == few
    assert verdicts["no gpu"][claim] == "not testable here"


def test_complexity_is_counted_and_so_never_inconclusive(verdicts: dict[str, dict[str, str]]) -> None:
    found = [verdicts[study]["complexity_order"] for study in ("as claimed", "opposite", "no gpu")]
    assert found == ["reproduced", "refuted", "not testable here"]


def test_what_did_not_run_has_no_complexity(tmp_path: Path) -> None:
    """Seen failing: refuted by the lines of our adapter for an engine that never ran."""
    known = AS_CLAIMED | {"tensorrt_llm": Known(status="unavailable", reason="no engine")}
    study = analyse(make_study(tmp_path, known, requests=40))
    row = readings(with_lines(study, LINES_AS_CLAIMED | {"tensorrt_llm": 10})).loc["complexity_order"]
    assert row["verdict"] == "not testable here" and "unavailable (no engine)" in row["sentence"]


def test_the_figures_of_a_reading(as_claimed: Study) -> None:
    rows = readings(as_claimed).loc["speedup_4_48"].set_index("reading")
    row = rows.loc["mean TTFT over all prompt lengths"]
    assert row["published_value"] == 4.48 and row["measured_value_low"] < 67.2 / 15 < row["measured_value_high"]
    assert row["measured_value"] == pytest.approx(67.2 / 15, rel=0.03)
    assert row["sentence"].startswith("Reproduced: baseline / jit_cuda is 4.") and "95 % interval" in row["sentence"]
    assert len(rows) == 6 and (rows["reading_verdict"] == "reproduced").all()


OTHERS = [
    ({"gpu": H200}, "GPU NVIDIA H200 with 141.0 GiB (source: a GPU of 93.12 GiB that it does not name)"),
    ({"model": replace(LLAMA, weights="random")}, "random weights (source: trained)"),
    ({"model": replace(LLAMA, parameters=3_400_000)}, "a model of 3.4 million parameters (source: LLaMA-2 7B)"),
    ({"dtype": "float32"}, "float32 (source: float16)"),
]


@pytest.mark.parametrize(("options", "words"), OTHERS)
def test_a_figure_is_not_shown_under_other_conditions(as_claimed: Study, options: dict[str, Any], words: str) -> None:
    """Seen failing: with another GPU, or random weights, the verdict was that of the figures."""
    found = readings(as_claimed, **options)
    assert (found.loc[["speedup_4_48", "ttft_order", "reduction_66"], "verdict"] == "not shown here").all()
    assert (found.loc["speedup_4_48", "reading_verdict"] == "reproduced").all(), "what the figures say stays"
    assert (found["other_conditions"] == words).all()
    general = found.loc[["best_overall", "graphs_alone_struggle", "jit_is_crucial"], "verdict"]
    assert (general == "reproduced").all(), "their words name no conditions"


def test_other_prompt_lengths_are_other_conditions(tmp_path: Path) -> None:
    found = readings(analyse(make_study(tmp_path, AS_CLAIMED)))
    assert set(found["other_conditions"]) == {"prompts of 10, 100 tokens (source: 10, 500)"}
    rows = found.loc["speedup_4_48"].set_index("reading")
    assert set(rows["verdict"]) == {"not shown here"}
    at_500 = rows.loc["mean TTFT at 500 prompt tokens"]
    assert at_500["reading_verdict"] == "not testable here" and "500 tokens were not measured" in at_500["sentence"]


def test_the_conditions_of_the_source_are_no_other_conditions(as_claimed: Study) -> None:
    assert set(readings(as_claimed, gpu=THEIR_GPU)["other_conditions"]) == {""}


@pytest.mark.parametrize(
    ("claimed_for", "at_least", "here", "elsewhere"),
    [
        ("its conditions", 4, "reproduced", "not shown here"),
        ("its conditions", 9, "refuted", "not shown here"),
        ("all conditions", 4, "reproduced", "reproduced"),
        ("all conditions", 9, "refuted", "refuted"),
        ("some conditions", 4, "reproduced", "reproduced"),
        ("some conditions", 9, "not shown here", "not shown here"),
    ],
)
def test_what_a_study_under_other_conditions_can_say(
    as_claimed: Study, tmp_path: Path, claimed_for: str, at_least: float, here: str, elsewhere: str
) -> None:
    path = invented(tmp_path, SPEEDUP | {"id": "x", "claimed_for": claimed_for, "at_least": at_least})
    assert judged(as_claimed, path)["x"] == here
    assert judged(as_claimed, path, dtype="float32")["x"] == elsewhere


def test_readings_that_disagree_are_all_listed(as_claimed: Study, tmp_path: Path) -> None:
    """What cannot be tested does not count."""
    one, nine = SPEEDUP | {"words": "one", "at_least": 1}, SPEEDUP | {"words": "nine", "at_least": 9}
    lost = SPEEDUP | {"words": "lost", "at_least": 1, "operands": ["baseline", "vllm"]}
    path = invented(
        tmp_path, {"id": "both", "readings": [one, nine]}, {"id": "one", "readings": [one, lost]},
        {"id": "none", "readings": [lost]},
    )  # fmt: skip
    found = readings(as_claimed, path)
    assert found["verdict"].tolist() == ["depends on the reading"] * 2 + ["reproduced"] * 2 + ["not testable here"]
    assert found.loc["both", "reading_verdict"].tolist() == ["reproduced", "refuted"]
    some = {"id": "some", "claimed_for": "some conditions", "readings": [one, nine]}
    elsewhere = judged(
        as_claimed, invented(tmp_path, some, some | {"id": "its", "claimed_for": "its conditions"}), dtype="float32"
    )
    assert elsewhere == {"some": "depends on the reading", "its": "not shown here"}, "seen by one of two readings"
    assert "vllm is not in this study" in found.loc["none", "sentence"]


@pytest.mark.parametrize(
    ("jit_ms", "process_sd", "verdict"),
    [(15.0, 0.01, "reproduced"), (19.9, 0.005, "refuted"), (25.0, 0.01, "refuted"), (19.5, 0.2, "inconclusive")],
)
def test_crucial_is_judged_with_a_margin(tmp_path: Path, jit_ms: float, process_sd: float, verdict: str) -> None:
    """Seen failing: 20.0 against 19.9 ms, which no margin would call crucial, was inconclusive or reproduced."""
    known = {"cuda_graph": takes(20.0, process_sd=process_sd), "jit_cuda": takes(jit_ms, process_sd=process_sd)}
    found = readings(analyse(make_study(tmp_path, known))).loc["jit_is_crucial"].set_index("reading")
    row = found.loc["with CUDA graphs, mean TTFT"]
    assert row["reading_verdict"] == verdict, row["sentence"]
    assert ("two one-sided tests with a margin of 5%" in row["sentence"]) == (jit_ms == 19.9)


def test_a_noisy_machine_is_inconclusive(tmp_path: Path) -> None:
    known = {name: takes(40.0, process_sd=0.5) for name in AS_CLAIMED}
    found = readings(analyse(make_study(tmp_path, known)))["reading_verdict"]
    for name in ("best_overall", "graphs_alone_struggle", "ttft_order"):
        assert set(found[[name]]) - {"not testable here"} == {"inconclusive"}, name


def test_too_few_processes_are_inconclusive(tmp_path: Path) -> None:
    found = readings(analyse(make_study(tmp_path, AS_CLAIMED, repeats=4)))
    mean = found[found["reading"].str.startswith(("lowest mean TTFT", "mean TTFT over", "mean TTFT at the best"))]
    assert set(mean["reading_verdict"]) == {"inconclusive"} and set(mean.index) > {"best_overall", "speedup_4_48"}
    assert mean["sentence"].str.contains("too few processes").all()
    assert mean["measured_value"].notna().all() and mean["measured_value_low"].isna().all()


@pytest.mark.parametrize(
    ("known", "word"),
    [
        (Known(status="unavailable", reason="no engine"), "unavailable (no engine)"),
        (Known(45.0, status="emulated", reason="no graphs"), "emulated (no graphs)"),
        (Known(status="failed", reason="broke"), "failed (broke)"),
        (Known(45.0, wrong_by=1.0), "computes another function"),
    ],
)
def test_an_operand_without_a_measurement_is_not_testable(tmp_path: Path, known: Known, word: str) -> None:
    found = readings(analyse(make_study(tmp_path, AS_CLAIMED | {"tensorrt_llm": known}, requests=40)))
    rows = found.loc[["best_overall", "ttft_order", "reduction_66"]]
    assert (rows["verdict"] == "not testable here").all() and rows["sentence"].str.contains(word, regex=False).all()
    assert rows["measured_value"].isna().all()
    assert "reproduced" in set(found.loc["speedup_4_48", "reading_verdict"]), "its operands are all there"


def test_a_metric_with_too_few_requests_does_not_disagree(tmp_path: Path) -> None:
    """Seen failing: without a P99 the verdict was "depends on the reading"."""
    study = analyse(make_study(tmp_path, AS_CLAIMED, requests=20))
    rows = readings(study).loc["graphs_alone_struggle"].set_index("reading")
    assert rows.loc["P99 of TTFT", "reading_verdict"] == "not testable here"
    assert "n too small" in rows.loc["P99 of TTFT", "sentence"] and set(rows["verdict"]) == {"reproduced"}
    assert readings(study).loc["p99_order", "verdict"] == "not testable here"


def test_a_reading_says_what_puts_its_interval_in_doubt(tmp_path: Path) -> None:
    study = make_study(tmp_path, AS_CLAIMED, requests=40, repeats=10)
    slow_down(study.root / "raw" / "cuda_graph" / "4.parquet", 10)
    rows = readings(analyse(study)).loc["graphs_alone_struggle"].set_index("reading")["doubts"]
    assert (
        rows["mean TTFT"].startswith("TTFT of cuda_graph at 10 tokens: a process apart") and rows["next tokens"] == ""
    )


def test_what_is_there_can_refute_an_order_that_lacks_a_member(tmp_path: Path) -> None:
    known = AS_CLAIMED | {"tensorrt_llm": Known(status="unavailable", reason="no"), "jit_cuda": takes(300.0)}
    assert set(readings(analyse(make_study(tmp_path, known))).loc["best_overall", "verdict"]) == {"refuted"}


def test_without_a_gpu_nothing_is_testable(tmp_path: Path) -> None:
    found = readings(analyse(make_study(tmp_path, AS_CLAIMED, gpu=None)))
    assert (found["verdict"] == "not testable here").all() and found["sentence"].str.contains("ran on none").all()
    assert "contradicts its own source" in set(found.loc["speedup_4_48", "verdict_from_source"]), "needs no machine"


CASES = [  # at_least, at_most, verdict where the truth is 4.48
    (4.05, 4.95, "reproduced"),
    (5.4, 6.6, "refuted"),
    (2.7, 3.3, "refuted"),
    (4.44, 5.42, "inconclusive"),
    (4.0, None, "reproduced"),
    (6.0, None, "refuted"),
    (4.48, None, "inconclusive"),
    (None, 6.0, "reproduced"),
    (None, 3.0, "refuted"),
]


def test_claims_of_another_paper_need_data_only(as_claimed: Study, tmp_path: Path) -> None:
    limits = [{"at_least": low, "at_most": high} for low, high, _ in CASES]
    claims = [
        SPEEDUP | {"id": str(place)} | {key: value for key, value in limit.items() if value is not None}
        for place, limit in enumerate(limits)
    ]
    gap = {"kind": "figure", "metric": "itl_request_mean", "operands": ["jit_cuda"]}
    claims += [gap | {"id": "gap", "at_least": 4.5, "at_most": 5.5}, gap | {"id": "no_gap", "at_least": 8.5}]
    table = {"source": "page 2", "rows": {"jit_cuda": {"itl_request_mean": 5.1}}}
    found = readings(as_claimed, invented(tmp_path, *claims, tables=[table]))
    assert found["verdict"].tolist()[:-2] == [verdict for *_, verdict in CASES]
    assert found.loc["gap", ["verdict", "verdict_from_source"]].tolist() == ["reproduced", "follows from its source"]
    assert found.loc["no_gap", ["verdict", "verdict_from_source"]].tolist() == ["refuted", "contradicts its own source"]


def test_the_largest_of_all_lengths_needs_one_that_is_large(tmp_path: Path) -> None:
    known = {"baseline": Known(20.0, per_token_ms=0), "jit_cuda": Known(4.0, per_token_ms=0.1)}
    study = analyse(make_study(tmp_path, known))
    largest = SPEEDUP | {"lengths": "largest"}
    path = invented(
        tmp_path, largest | {"id": "up to 3.5", "at_least": 3.5}, largest | {"id": "up to 5", "at_least": 5}
    )
    found = readings(study, path)
    assert found["verdict"].tolist() == ["reproduced", "refuted"]
    assert found["sentence"].str.contains("largest at 10 prompt tokens").all()
    assert np.isclose(found["measured_value"], 4.0, rtol=0.05).all()


def test_the_largest_of_one_approach_is_corrected_for_the_looks_too(as_claimed: Study, tmp_path: Path) -> None:
    """Seen failing: the interval of a length that was named beforehand."""
    gap = {"kind": "figure", "metric": "ttft_mean", "operands": ["baseline"], "at_least": 1}
    path = invented(tmp_path, gap | {"id": "named", "lengths": [500]}, gap | {"id": "picked", "lengths": "largest"})
    found = readings(as_claimed, path)
    assert found.loc["named", "measured_value"] == found.loc["picked", "measured_value"]
    assert found.loc["picked", "measured_value_low"] < found.loc["named", "measured_value_low"]
