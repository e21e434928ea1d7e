"""Every kind of claim gets the right verdict on studies whose truth is known."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fakes.claim_studies import AS_CLAIMED, LLAMA, PUBLISHED, invented, judged
from firsttoken.analysis.published import read_published
from firsttoken.analysis.schemas import read_table, write_table
from fixtures_samples import Known, Study, analyse, make_study

CONTESTED = ("best_overall", "speedup_4_48", "graphs_alone_struggle", "jit_is_crucial", "ttft_order")


def test_a_machine_that_bears_the_study_out_reproduces_it(as_claimed: Study) -> None:
    found = judged(as_claimed)["verdict"].to_dict()
    reproduced = (
        "best_overall",
        "speedup_4_48",
        "graphs_alone_struggle",
        "jit_is_crucial",
        "ttft_order",
        "memory_order",
    )
    assert {name: found[name] for name in reproduced} == dict.fromkeys(reproduced, "reproduced")
    assert found["p99_order"] == "refuted"
    assert found["rolling_bounds_memory"] == found["unlimited_lengths"] == found["ipc_scales"] == "not testable here"


@pytest.mark.parametrize(
    ("parameters", "dtype", "words"),
    [
        (3_400_000, "float16", "this study ran llama2-7b-shape (3.4 million parameters) in float16"),
        (LLAMA.parameters, "float32", "the claim is about LLaMA-2 7B (6,738 million) in float16 or bfloat16"),
    ],
)
def test_a_claim_about_another_model_is_not_testable(
    as_claimed: Study, tmp_path: Path, parameters: int, dtype: str, words: str
) -> None:
    model = msgspec.structs.replace(LLAMA, parameters=parameters)
    found = judged(as_claimed, model=model, dtype=dtype).drop("complexity_order")
    assert (found["verdict"] == "not testable here").all() and found["measured_value"].isna().all()
    assert found["sentence"].str.contains(words, regex=False).all()
    assert found.loc["speedup_4_48", "verdict_from_source"] == "contradicts its own source"
    claim = {
        "id": "any",
        "kind": "ratio",
        "metric": "ttft_mean",
        "operands": ["baseline", "jit_cuda"],
        "published": 4.5,
    }
    of_any = judged(as_claimed, invented(tmp_path, claim | {"tolerance": 0.1}), model, dtype)
    assert of_any.loc["any", "verdict"] == "reproduced", "a file that names no model is about any"
    assert (judged(as_claimed, dtype="bfloat16")["verdict"] == "reproduced").sum() >= 6


def test_the_figures_of_a_claim(as_claimed: Study) -> None:
    row = judged(as_claimed).loc["speedup_4_48"]
    assert row["published_value"] == 4.48 and row["low"] < 67.2 / 15 < row["high"]
    assert row["measured_value"] == pytest.approx(67.2 / 15, rel=0.03)
    assert "95 % interval" in row["sentence"] and row["sentence"].startswith("Reproduced: baseline / jit_cuda is 4.")
    reduction = judged(as_claimed).loc["reduction_66"]
    assert reduction["measured_value"] == pytest.approx(1 - 15 / 45, abs=0.02)


# P99 in the published order; the other figures do not matter here.
P99_AS_CLAIMED = {
    name: Known(ms, per_token_ms=0)
    for name, ms in zip(
        ("jit_cuda", "cuda_graph", "tensorrt_llm", "baseline", "jit_only"), (5, 9, 16, 30, 60), strict=True
    )
}


OPPOSITE = {
    "baseline": Known(20.0, per_token_ms=0, memory_gib=10),
    "cuda_graph": Known(15.0, per_token_ms=0, memory_gib=16),
    "jit_only": Known(12.0, per_token_ms=0, memory_gib=15),
    "jit_cuda": Known(40.0, per_token_ms=0, memory_gib=20),
    "tensorrt_llm": Known(45.0, per_token_ms=0, memory_gib=22),
}


LINES_AS_CLAIMED = {"baseline": 100, "jit_only": 110, "cuda_graph": 200, "tensorrt_llm": 210, "jit_cuda": 300}


OF_SAMPLES = (
    "best_overall", "speedup_4_48", "speedup_4_48_p99", "graphs_alone_struggle", "jit_is_crucial", "ttft_order",
    "p99_order", "memory_order", "reduction_66",
)  # fmt: skip


def with_lines(study: Study, lines: dict[str, int]) -> Study:
    """The same summary with these source lines."""
    table = read_table(study.table("summary"), "summary")
    table["source_lines"] = table["approach"].map(lines).astype("Int64")
    write_table(table, "summary", study.table("summary"))
    return study


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Of studies that bear all claims out, or all but the order of P99; of the opposite; of too few; without a GPU."""

    def made(known: dict[str, Known], lines: dict[str, int], **options: object) -> dict[str, str]:
        study = analyse(make_study(tmp_path_factory.mktemp("verdicts"), known, **options))  # type: ignore[arg-type]
        return judged(with_lines(study, lines))["verdict"].to_dict()

    turned = dict(zip(LINES_AS_CLAIMED, reversed(LINES_AS_CLAIMED.values()), strict=True))
    return {
        "as claimed": made(AS_CLAIMED, LINES_AS_CLAIMED, seed=2),
        "p99 as claimed": made(P99_AS_CLAIMED, LINES_AS_CLAIMED, seed=2),
        "opposite": made(OPPOSITE, turned, seed=2),
        "few": made(AS_CLAIMED, LINES_AS_CLAIMED, repeats=4),
        "no gpu": made(AS_CLAIMED, {"baseline": 100}, gpu=None),
    }


@pytest.mark.parametrize("claim", OF_SAMPLES)
def test_every_published_claim_can_get_every_verdict(claim: str, verdicts: dict[str, dict[str, str]]) -> None:
    assert verdicts["p99 as claimed" if claim == "p99_order" else "as claimed"][claim] == "reproduced"
    assert verdicts["opposite"][claim] == "refuted"
    assert verdicts["few"][claim] == "inconclusive"
    assert verdicts["no gpu"][claim] == "not testable here"


def test_complexity_is_counted_and_so_never_inconclusive(verdicts: dict[str, dict[str, str]]) -> None:
    found = [verdicts[study]["complexity_order"] for study in ("as claimed", "opposite", "no gpu")]
    assert found == ["reproduced", "refuted", "not testable here"]


def test_the_remaining_claims_have_experiments_of_their_own() -> None:
    """Their verdicts are in test_bounded_memory, test_uncaptured_lengths and test_scaling_with_clients."""
    others = {claim.id: claim.kind for claim in read_published(PUBLISHED).claims if claim.id not in OF_SAMPLES}
    assert others == {
        "rolling_bounds_memory": "bounded_memory",
        "unlimited_lengths": "uncaptured",
        "ipc_scales": "scales",
        "complexity_order": "ordering",
    }


def test_a_machine_that_shows_the_opposite_refutes(tmp_path: Path) -> None:
    known = AS_CLAIMED | {
        "jit_cuda": Known(80.0, per_token_ms=0, memory_gib=22),
        "cuda_graph": Known(30.0, per_token_ms=0),
    }
    found = judged(analyse(make_study(tmp_path, known)))["verdict"].to_dict()
    for name in (
        "best_overall",
        "speedup_4_48",
        "graphs_alone_struggle",
        "jit_is_crucial",
        "ttft_order",
        "memory_order",
    ):
        assert found[name] == "refuted", name
    assert found["reduction_66"] == "refuted"


def test_a_noisy_machine_is_inconclusive(tmp_path: Path) -> None:
    known = {name: Known(40.0, per_token_ms=0, process_sd=0.5) for name in AS_CLAIMED}
    found = judged(analyse(make_study(tmp_path, known)))["verdict"].to_dict()
    for name in ("best_overall", "graphs_alone_struggle", "jit_is_crucial", "ttft_order"):
        assert found[name] == "inconclusive", name


def test_too_few_processes_are_inconclusive(tmp_path: Path) -> None:
    found = judged(analyse(make_study(tmp_path, AS_CLAIMED, repeats=4)))
    for name in ("best_overall", "speedup_4_48", "ttft_order", "reduction_66"):
        assert found.loc[name, "verdict"] == "inconclusive"
        assert "too few processes" in found.loc[name, "sentence"]
    assert found.loc["speedup_4_48", "measured_value"] > 4 and np.isnan(found.loc["speedup_4_48", "low"])


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
    found = judged(analyse(make_study(tmp_path, AS_CLAIMED | {"tensorrt_llm": known}, requests=40)))
    for name in ("best_overall", "ttft_order", "reduction_66"):
        assert found.loc[name, "verdict"] == "not testable here" and word in found.loc[name, "sentence"]
        assert np.isnan(found.loc[name, "measured_value"])
    assert found.loc["speedup_4_48", "verdict"] == "reproduced", "its operands are all there"


def test_what_is_there_can_refute_an_order_that_lacks_a_member(tmp_path: Path) -> None:
    known = AS_CLAIMED | {"tensorrt_llm": Known(status="unavailable", reason="no"), "jit_cuda": Known(300.0)}
    found = judged(analyse(make_study(tmp_path, known)))
    assert found.loc["best_overall", "verdict"] == "refuted"


def test_without_a_gpu_nothing_about_a_gpu_is_testable(tmp_path: Path) -> None:
    found = judged(analyse(make_study(tmp_path, AS_CLAIMED, gpu=None)))
    about_gpu = found.drop("complexity_order")
    assert (about_gpu["verdict"] == "not testable here").all()
    assert about_gpu["sentence"].str.contains("ran on none").all()
    assert found.loc["speedup_4_48", "verdict_from_source"] == "contradicts its own source", "that needs no machine"


CASES = [  # test, published, verdict where the truth is 4.48
    ("about", 4.5, "reproduced"),
    ("about", 6.0, "refuted"),
    ("about", 3.0, "refuted"),
    ("about", 4.93, "inconclusive"),
    ("at_least", 4.0, "reproduced"),
    ("at_least", 6.0, "refuted"),
    ("at_most", 6.0, "reproduced"),
    ("at_most", 3.0, "refuted"),
    ("above", 4.0, "reproduced"),
    ("above", 4.48, "inconclusive"),
    ("above", 5.0, "refuted"),
]


def test_claims_of_another_paper_need_data_only(as_claimed: Study, tmp_path: Path) -> None:
    claims: list[dict[str, object]] = [
        {
            "id": f"{test}_{published}",
            "kind": "ratio",
            "metric": "ttft_mean",
            "operands": ["baseline", "jit_cuda"],
            "test": test,
            "published": published,
            "tolerance": 0.1 if test == "about" else 0.0,
        }
        for test, published, _ in CASES
    ]
    gap = {"kind": "value", "metric": "itl_request_mean", "operands": ["jit_cuda"], "tolerance": 0.05}
    claims += [gap | {"id": "gap", "published": 5.0}, gap | {"id": "no_gap", "published": 9.0}]
    table: dict[str, object] = {"source": "page 2", "rows": {"jit_cuda": {"itl_request_mean": 5.1}}}
    found = judged(as_claimed, invented(tmp_path, *claims, tables=[table]))
    verdicts = {f"{test}_{published}": verdict for test, published, verdict in CASES}
    assert found.drop(["gap", "no_gap"])["verdict"].to_dict() == verdicts
    assert found.loc["gap", ["verdict", "verdict_from_source"]].tolist() == ["reproduced", "follows from its source"]
    assert found.loc["no_gap", ["verdict", "verdict_from_source"]].tolist() == ["refuted", "contradicts its own source"]


def test_a_direction_says_where_its_published_figure_lies(as_claimed: Study, tmp_path: Path) -> None:
    above: dict[str, object] = {
        "kind": "ratio",
        "metric": "ttft_mean",
        "operands": ["baseline", "jit_cuda"],
        "test": "above",
    }
    near, far = above | {"id": "near", "published": 4.48}, above | {"id": "far", "published": 7.79}
    found = judged(as_claimed, invented(tmp_path, *[{**claim, "threshold": 1.0} for claim in (near, far)]))
    assert found["verdict"].tolist() == ["reproduced", "reproduced"]
    assert "the published figure, 4.48, is inside the interval" in found.loc["near", "sentence"]
    assert "the published figure, 7.79, is outside the interval" in found.loc["far", "sentence"]
