"""The equality check: which differences are allowed, and that the others are seen."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from firsttoken import files
from firsttoken.analysis.equality_bounds import GAP_FACTOR, read_limits
from firsttoken.analysis.equivalence import judge_all
from firsttoken.analysis.schemas import read_table
from firsttoken.results import PromptTokens, TokenSequence, TokensRecord
from fixtures_samples import BOUNDS, NEAR_TIE, NEW_TOKENS, VOCABULARY, Known, Study, Table, compare, make_study, pool

Change = Callable[[PromptTokens], PromptTokens]
NEAR, FAR = VOCABULARY - 2, VOCABULARY - 1  # second and third best token at position 2 of prompt 10/0


def verdicts(study: Study, dtype: str = "float32", sampling: str = "greedy") -> Table:
    compare(pool(study), dtype, sampling)
    return read_table(study.table("equivalence"), "equivalence").set_index("approach")


def verdict(study: Study, dtype: str = "float32", sampling: str = "greedy") -> Table:
    return verdicts(study, dtype, sampling).loc["jit_only"]


def made(root: Path, known: Known, change: Change | None = None, repeats: int = 1, **others: Known) -> Study:
    study = make_study(root, {"jit_only": known, **others}, lengths=(10,), requests=2, repeats=repeats)
    for path in study.raw("*.tokens.json"):
        if change is None:
            break
        record = files.read_json(path, TokensRecord)
        files.write_json(path, msgspec.structs.replace(record, prompts=tuple(change(p) for p in record.prompts)))
    return study


def answering(*answers: tuple[int | None, ...], index: int = 0) -> Change:
    """Other answers to one prompt: None takes the reference's token, a number replaces it. One request each."""

    def change(prompt: PromptTokens) -> PromptTokens:
        if prompt.prompt_index != index:
            return prompt
        known = prompt.answers[0].tokens
        given = [tuple(old if new is None else new for old, new in zip(known, each, strict=False)) for each in answers]
        return msgspec.structs.replace(prompt, answers=tuple(TokenSequence(tokens=each, requests=1) for each in given))

    return change


def with_logits(study: Study, change: Callable[[np.ndarray], np.ndarray], approach: str = "jit_only") -> Study:
    """The study with other logits in the files of one approach; `change` gets the reference's."""
    reference = load_file(study.root / "reference.safetensors")
    for path in (study.root / "raw" / approach).glob("*.logits/*"):
        expected = reference["logits/" + path.stem.replace("-", "/")].astype(np.float64)
        save_file({"logits": change(expected).astype(np.float32)}, path)
    return study


# ---------------------------------------------------------------- tokens


def test_the_same_tokens_are_equal(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known()))
    assert (row["verdict"], row["prompts"], row["positions"], row["reason"]) == ("equal", 2, 2 * NEW_TOKENS, "")
    assert (row["token_check"], row["decided_share"]) == ("strong", 7 / 8)
    assert 0 < row["rms_error"] < row["rms_bound"]


def test_a_difference_where_the_reference_was_undecided_is_within_tolerance(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known(wrong_by=NEAR_TIE)))
    assert (row["verdict"], row["differing_positions"]) == ("equal within tolerance", 1)
    assert row["largest_gap"] == pytest.approx(NEAR_TIE, rel=0.1)
    assert row["gap_bound"] > NEAR_TIE


def test_an_undecided_reference_does_not_excuse_any_other_token(tmp_path: Path) -> None:
    """The two best logits nearly tie there, but the chosen token is a third one, 1 below."""
    row = verdict(made(tmp_path, Known(wrong_by=1.0)))
    assert row["verdict"] == "different" and row["largest_gap"] == pytest.approx(1.0)
    assert "prompt 10/0, token 2: chose a token that is 1 nats below the reference's best" in row["reason"]


def test_another_token_where_the_reference_was_decided_is_different(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known(), answering((None, 0, None, None), index=1)))
    assert row["verdict"] == "different" and "prompt 10/1, token 1" in row["reason"]


def test_tokens_are_counted_once_and_not_once_a_process(tmp_path: Path) -> None:
    assert verdict(made(tmp_path, Known(), repeats=5))["positions"] == 2 * NEW_TOKENS


def test_after_a_tolerated_difference_the_check_goes_on_teacher_forced(tmp_path: Path) -> None:
    """The tokens behind it have another text, so that they say nothing; the logits of the reference's text do."""
    study = made(tmp_path, Known(), answering((None, None, NEAR, 3)))
    assert verdict(study)["verdict"] == "equal within tolerance"

    def wrong_at_the_end(expected: np.ndarray) -> np.ndarray:
        expected[3] = np.roll(expected[3], 1)
        return expected

    row = verdict(with_logits(study, wrong_at_the_end))
    assert row["verdict"] == "different"
    assert "token 3: teacher-forced, favours a token that is" in row["reason"]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([(None, None, None)], "3 tokens, the reference has 4"),
        ([(VOCABULARY + 5, None, None, None)], "not even among the reference's best"),
        ([(None,) * 4, (None, 0, None, None)], "token 1: chose a token"),
    ],
)
def test_wrong_counts_and_unknown_tokens_are_different(
    tmp_path: Path, answers: Sequence[tuple[int | None, ...]], message: str
) -> None:
    row = verdict(made(tmp_path, Known(), answering(*answers)))
    assert row["verdict"] == "different" and message in row["reason"]


def test_requests_that_differ_behind_a_near_tie_are_remarked_and_not_judged(tmp_path: Path) -> None:
    """Their text is not the reference's any more, so that nothing says whether the next token was a near tie, too."""
    row = verdict(made(tmp_path, Known(), answering((None, None, NEAR, 3), (None, None, NEAR, 5))))
    assert row["verdict"] == "equal within tolerance"
    assert "token 3: 1 requests chose another token than the rest" in row["reason"]


def test_requests_may_differ_at_the_very_position_that_is_a_near_tie(tmp_path: Path) -> None:
    near = answering((None,) * 4, (None, None, NEAR, 3))
    assert verdict(made(tmp_path / "a", Known(), near))["verdict"] == "equal within tolerance"
    elsewhere = answering((None,) * 4, (None, None, None, 3))  # the same prompt has a near tie, but one token earlier
    assert verdict(made(tmp_path / "b", Known(), elsewhere))["verdict"] == "different"


def test_processes_that_differ_from_each_other_are_seen(tmp_path: Path) -> None:
    study = made(tmp_path, Known(), repeats=2)
    path = study.root / "raw/jit_only/2.tokens.json"
    record = files.read_json(path, TokensRecord)
    other = answering((0, None, None, None))
    files.write_json(path, msgspec.structs.replace(record, prompts=tuple(other(p) for p in record.prompts)))
    assert "token 0: chose a token" in verdict(study)["reason"]


def test_few_decided_positions_make_a_weak_token_check(tmp_path: Path) -> None:
    """In bfloat16 the second best tokens, 2 nats away, are decided; tokens all as good as each other are not."""
    study = made(tmp_path, Known())
    path = study.root / "reference.safetensors"
    tensors = load_file(path)
    for name in [name for name in tensors if name.startswith("top_logits")]:
        tensors[name][:, 1] = tensors[name][:, 0]
    save_file(tensors, path, metadata={"layers": "2"})
    row = verdict(study)
    assert (row["verdict"], row["token_check"], row["decided_share"]) == ("equal", "weak", 0.0)
    assert row["reason"].startswith("token check weak")


# ---------------------------------------------------------------- logits


@pytest.mark.parametrize("scale", [1.1, 1.5, 0.9])
def test_scaled_logits_are_caught_by_their_slope(tmp_path: Path, scale: float) -> None:
    """They favour the same tokens at every position."""
    for dtype in ("float32", "float16", "bfloat16"):
        row = verdict(with_logits(made(tmp_path / dtype, Known()), lambda logits: logits * scale), dtype)
        assert row["verdict"] == "different"
        assert f"distance of the slope from 1 {abs(scale - 1):.3g}" in row["reason"]
        assert row["slope_max"] == pytest.approx(scale)


def test_noise_on_the_other_tokens_is_seen(tmp_path: Path) -> None:
    """Up to 1 on every logit but the largest: no token changes."""
    drawn = np.random.default_rng(1)

    def noisy(logits: np.ndarray) -> np.ndarray:
        best = logits.argmax(axis=-1)
        changed = logits - drawn.uniform(0, 1, logits.shape)
        changed[np.arange(len(logits)), best] = logits.max(axis=-1)
        return changed

    for dtype in ("float32", "float16", "bfloat16"):
        row = verdict(with_logits(made(tmp_path / dtype, Known()), noisy), dtype)
        assert row["verdict"] == "different" and "RMS error" in row["reason"] and row["differing_positions"] == 0


def noise(share: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Rounding-like errors of this share of the spread."""
    drawn = np.random.default_rng(seed)
    return lambda logits: logits + share * logits.std(axis=-1, keepdims=True) * drawn.normal(size=logits.shape)


def test_the_baselines_own_error_bounds_that_of_the_others(tmp_path: Path) -> None:
    """Within the absolute bound, but three times what the baseline differs by."""
    study = made(tmp_path, Known(), baseline=Known())
    with_logits(study, noise(0.01, 1), "baseline")
    rows = verdicts(with_logits(study, noise(0.01, 2)), "bfloat16")
    assert "different" not in rows["verdict"].tolist()
    row = verdict(with_logits(study, noise(0.03, 3)), "bfloat16")
    assert row["verdict"] == "different" and "1.5 times the baseline's" in row["reason"]
    alone = made(tmp_path / "alone", Known())
    assert verdict(with_logits(alone, noise(0.03, 3)), "bfloat16")["verdict"] != "different", (
        "no baseline to hold it to"
    )


def test_an_error_that_stands_out_nowhere_is_seen_over_all_positions(tmp_path: Path) -> None:
    """The baseline has one bad position, the other approach is as bad everywhere."""
    study = made(tmp_path, Known(), baseline=Known())

    def one_bad(logits: np.ndarray) -> np.ndarray:
        changed = noise(0.005, 1)(logits)
        changed[1] = noise(0.03, 1)(logits)[1]
        return changed

    with_logits(with_logits(study, one_bad, "baseline"), noise(0.03, 2))
    row = verdict(study, "bfloat16")
    assert row["verdict"] == "different"
    assert "RMS error over spread over all positions" in row["reason"]


def test_the_baseline_is_held_to_the_absolute_bound(tmp_path: Path) -> None:
    study = made(tmp_path, Known(), baseline=Known())
    row = verdicts(with_logits(study, noise(0.5, 1), "baseline"), "bfloat16").loc["baseline"]
    assert row["verdict"] == "different" and "(absolute)" in row["reason"]


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((NEW_TOKENS, 7), np.float32), "logits of shape [4, 7], the reference has [4, 32]"),
        (np.full((NEW_TOKENS, VOCABULARY), np.nan, np.float32), "not finite"),
        (np.zeros((NEW_TOKENS, VOCABULARY), np.float32), "distance of the slope from 1 1,"),
    ],
)
def test_useless_logits_are_different(tmp_path: Path, logits: np.ndarray, message: str) -> None:
    study = made(tmp_path, Known())
    save_file({"logits": logits}, study.raw("*.logits")[0] / "10-1.safetensors")
    row = verdict(study)
    assert row["verdict"] == "different" and message in row["reason"]


def test_missing_logits_are_said(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known(logit_error=None)))
    assert (row["verdict"], row["logit_positions"]) == ("equal", 0) and np.isnan(row["rms_error"])
    assert row["reason"] == "tokens only: there are no logits to compare"


def test_sampled_studies_are_decided_by_the_logits(tmp_path: Path) -> None:
    study = made(tmp_path / "a", Known(), answering((1, 2, 3, 4), (4, 3, 2, 1)))
    row = verdict(study, sampling="sample")
    assert (row["verdict"], row["token_check"], row["positions"]) == ("equal", "none", 0)
    assert verdict(with_logits(study, lambda logits: logits * 1.1), sampling="sample")["verdict"] == "different"
    row = verdict(made(tmp_path / "b", Known(logit_error=None)), sampling="sample")
    assert (row["verdict"], row["reason"]) == ("not checked", "sampled tokens, and no logits to compare")
    row = verdict(with_logits(made(tmp_path / "c", Known()), lambda logits: logits[:, :-1]), sampling="sample")
    assert row["verdict"] == "different" and "logits of shape" in row["reason"], "seen to be `not checked`"


# ---------------------------------------------------------------- the rest


def test_what_cannot_be_checked_is_not_checked(tmp_path: Path) -> None:
    row = verdict(made(tmp_path / "b", Known(status="unavailable", reason="no engine")))
    assert (row["verdict"], row["reason"]) == ("not checked", "no engine")
    other = made(tmp_path / "c", Known(), lambda prompt: msgspec.structs.replace(prompt, prompt_length=11))
    assert verdict(other)["verdict"] == "not checked"


def test_the_verdicts_can_be_made_again_from_the_table_of_positions(tmp_path: Path) -> None:
    study = made(tmp_path, Known(), baseline=Known(), jit_cuda=Known(wrong_by=1.0), cuda_graph=Known(wrong_by=NEAR_TIE))
    shipped = verdicts(study)
    positions = read_table(study.table("equality_positions"), "equality_positions")
    again = judge_all(positions, dict.fromkeys(shipped.index, ""), read_limits(BOUNDS, "float32", 2), "greedy")
    pd.testing.assert_frame_equal(again.set_index("approach"), shipped, check_dtype=False)
    assert shipped["verdict"].to_dict() == {
        "baseline": "equal",
        "cuda_graph": "equal within tolerance",
        "jit_cuda": "different",
        "jit_only": "equal",
    }


def test_a_gap_counts_as_decided_in_proportion_to_the_bound_on_the_error(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known()))
    positions = read_table(tmp_path / "tables/equality_positions.csv", "equality_positions")
    limits = read_limits(BOUNDS, "float32", 2)
    assert row["gap_bound"] == pytest.approx(GAP_FACTOR * limits.absolute["rms"] * positions["spread"].median())
