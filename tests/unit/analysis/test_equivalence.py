"""The equality check: which differences are allowed, and that the others are seen."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from firsttoken import files
from firsttoken.analysis.equivalence import check_equivalence
from firsttoken.analysis.schemas import read_table
from firsttoken.records import PromptTokens, TokensRecord
from fixtures_samples import NEW_TOKENS, VOCABULARY, Known, Study, make_study

Change = Callable[[PromptTokens], PromptTokens]


def verdict(
    study: Study, dtype: str = "float32", logit_gap: float | None = None, sampling: str = "greedy"
) -> pd.Series:
    out = study.table("equivalence")
    tokens, logits = study.raw("*.tokens.json"), study.raw("*.logits")
    check_equivalence(
        tokens, study.records, logits, study.root / "reference.safetensors", dtype, logit_gap, out, sampling
    )
    return read_table(out, "equivalence").iloc[0]


def made(root: Path, known: Known, change: Change | None = None) -> Study:
    study = make_study(root, {"jit_only": known}, lengths=(10,), requests=2, repeats=1)
    if change is not None:
        path = study.raw("*.tokens.json")[0]
        record = files.read_json(path, TokensRecord)
        files.write_json(path, msgspec.structs.replace(record, prompts=tuple(change(p) for p in record.prompts)))
    return study


def test_the_same_tokens_are_equal(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known()))
    assert (row["verdict"], row["prompts"], row["tokens_compared"], row["reason"]) == ("equal", 2, 2 * NEW_TOKENS, "")
    assert row["max_abs_logit_error"] == pytest.approx(1e-5, rel=0.1)


def test_a_difference_where_the_reference_was_undecided_is_within_tolerance(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known(wrong_by=0.0005)))
    assert row["verdict"] == "equal within tolerance"
    where = row[["first_prompt_length", "first_prompt_index", "first_position", "divergent_prompts"]]
    assert where.tolist() == [10, 0, 2, 1]
    assert row["reference_gap"] == pytest.approx(0.0005)


def test_the_dtype_decides_the_tolerance_and_the_config_overrides_it(tmp_path: Path) -> None:
    study = made(tmp_path, Known(wrong_by=0.0005))
    assert verdict(study, logit_gap=0.0001)["verdict"] == "different"
    assert verdict(study, dtype="bfloat16")["tolerance"] == 0.4
    with pytest.raises(ValueError, match="float8"):
        verdict(study, dtype="float8")


def test_an_undecided_reference_does_not_excuse_any_other_token(tmp_path: Path) -> None:
    """The two best logits are 0.0005 apart there, but the chosen token is a third one, 1 below."""
    row = verdict(made(tmp_path, Known(wrong_by=1.0)))
    assert row["verdict"] == "different"
    assert row["reference_gap"] == pytest.approx(0.0005) and row["chosen_gap"] == pytest.approx(1.0)


def test_only_the_first_divergence_counts(tmp_path: Path) -> None:
    """After an allowed divergence the context differs, so that later tokens say nothing."""

    def change(prompt: PromptTokens) -> PromptTokens:
        later = (prompt.tokens[3] + 1) % VOCABULARY
        return (
            msgspec.structs.replace(prompt, tokens=(*prompt.tokens[:3], later)) if prompt.prompt_index == 0 else prompt
        )

    assert verdict(made(tmp_path, Known(wrong_by=0.0005), change))["verdict"] == "equal within tolerance"


def lacking(prompt: PromptTokens) -> PromptTokens:
    return msgspec.structs.replace(prompt, tokens=prompt.tokens[:-1])


def unknown(prompt: PromptTokens) -> PromptTokens:
    return msgspec.structs.replace(prompt, tokens=(VOCABULARY + 5, *prompt.tokens[1:]))


def unstable(prompt: PromptTokens) -> PromptTokens:
    return msgspec.structs.replace(prompt, differing_runs=2 if prompt.prompt_index == 1 else 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacking, "3 tokens, the reference 4"),
        (unknown, "not even among its best"),
        (unstable, "other tokens in 2 of 5"),
    ],
)
def test_wrong_counts_unknown_tokens_and_unstable_answers_are_different(
    tmp_path: Path, change: Change, message: str
) -> None:
    row = verdict(made(tmp_path, Known(), change))
    assert row["verdict"] == "different" and message in row["reason"]


def test_an_unstable_answer_where_the_reference_was_undecided_is_within_tolerance(tmp_path: Path) -> None:
    def change(prompt: PromptTokens) -> PromptTokens:
        return msgspec.structs.replace(prompt, differing_runs=2 if prompt.prompt_index == 0 else 0)

    assert verdict(made(tmp_path, Known(), change))["verdict"] == "equal within tolerance"


def test_logit_error_and_kl_are_their_definitions(tmp_path: Path) -> None:
    study = made(tmp_path, Known())
    rng, largest, kl = np.random.default_rng(1), 0.0, []
    reference = load_file(study.root / "reference.safetensors")
    for path in sorted(study.raw("*.logits")[0].iterdir()):
        expected = reference["logits/" + path.stem.replace("-", "/")].astype(np.float64)
        found = (expected + rng.normal(0, 0.1, expected.shape)).astype(np.float32)
        save_file({"logits": found}, path)
        largest = max(largest, float(np.abs(found - expected).max()))
        p, q = softmax(expected, axis=-1), softmax(found.astype(np.float64), axis=-1)
        kl += (p * np.log(p / q)).sum(axis=-1).tolist()
    row = verdict(study)
    assert row["max_abs_logit_error"] == pytest.approx(largest)
    assert (row["kl_mean"], row["kl_max"]) == pytest.approx((np.mean(kl), np.max(kl)))


def test_logits_after_the_divergence_are_not_compared(tmp_path: Path) -> None:
    study = made(tmp_path, Known(wrong_by=0.0005))
    path = study.raw("*.logits")[0] / "10-0.safetensors"
    logits = load_file(path)["logits"]
    logits[3] += 50
    save_file({"logits": logits}, path)
    assert verdict(study)["max_abs_logit_error"] < 1e-3


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((NEW_TOKENS, 7), np.float32), "shape"),
        (np.full((NEW_TOKENS, VOCABULARY), np.nan, np.float32), "finite"),
    ],
)
def test_useless_logits_are_different(tmp_path: Path, logits: np.ndarray, message: str) -> None:
    study = made(tmp_path, Known())
    save_file({"logits": logits.astype(np.float32)}, study.raw("*.logits")[0] / "10-1.safetensors")
    row = verdict(study)
    assert row["verdict"] == "different" and message in row["reason"]


def test_missing_logits_are_said(tmp_path: Path) -> None:
    row = verdict(made(tmp_path, Known(logit_error=None)))
    assert row["verdict"] == "equal" and np.isnan(row["max_abs_logit_error"])
    assert row["reason"] == "logits not compared: this approach does not offer logits"


def test_what_cannot_be_checked_is_not_checked(tmp_path: Path) -> None:
    assert verdict(made(tmp_path / "a", Known()), sampling="sample")["verdict"] == "not checked"
    row = verdict(made(tmp_path / "b", Known(status="unavailable", reason="no engine")))
    assert (row["verdict"], row["reason"]) == ("not checked", "no engine")
    other = made(tmp_path / "c", Known(), lambda prompt: msgspec.structs.replace(prompt, prompt_length=11))
    assert verdict(other)["verdict"] == "not checked"
