"""Whether an approach computes the same function as the float32 reference.

Greedy tokens must be the reference's. Where they first differ (later positions have another context), the reference
itself must have been nearly undecided: the logit of its own choice may exceed that of the chosen token by at most the
tolerance of the dtype. Teacher-forced logits, where offered, give the largest error and the KL divergence beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from scipy.special import log_softmax

from firsttoken import files
from firsttoken.analysis.samples import INSTRUMENT, read_records
from firsttoken.analysis.schemas import write_table
from firsttoken.records import PromptTokens, RunRecord, TokensRecord

LOGIT_GAP = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.4}
Key = tuple[int, int]  # prompt length, prompt index


@dataclass(frozen=True)
class Divergence:
    """Where a prompt's tokens first differ from the reference's, and how undecided the reference was there."""

    prompt_length: int
    prompt_index: int
    position: int
    reference_gap: float  # between the reference's two best logits
    chosen_gap: float  # between the reference's best logit and that of the token the approach chose


@dataclass
class Evidence:
    """What was found for one approach over its processes."""

    prompts: set[Key] = field(default_factory=set)
    tokens_compared: int = 0
    divergences: list[Divergence] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    max_abs_error: float = np.nan
    kl: list[float] = field(default_factory=list)
    logits_reason: str = ""
    unstable: int = 0  # requests whose tokens differed from the first of the same prompt, at an undecided reference


class Reference:
    """Eager float32 tokens and logits, read one prompt at a time."""

    def __init__(self, path: Path | str) -> None:
        self._file = safe_open(str(path), framework="numpy")
        keys = [name.split("/") for name in self._file.keys() if name.startswith("tokens/")]  # noqa: SIM118
        self.prompts: set[Key] = {(int(length), int(index)) for _, length, index in keys}

    def tokens(self, key: Key) -> np.ndarray:
        """[new_tokens]"""
        return np.asarray(self._file.get_tensor(f"tokens/{key[0]}/{key[1]}")).ravel().astype(np.int64)

    def candidates(self, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """The best tokens and their logits, both [new_tokens, candidates], the best first."""
        name = f"{key[0]}/{key[1]}"
        return (
            np.asarray(self._file.get_tensor(f"top_tokens/{name}"), dtype=np.int64),
            np.asarray(self._file.get_tensor(f"top_logits/{name}"), dtype=np.float32),
        )

    def logits(self, key: Key) -> np.ndarray:
        """[new_tokens, vocab]"""
        return np.asarray(self._file.get_tensor(f"logits/{key[0]}/{key[1]}"), dtype=np.float32)


def check_equivalence(
    tokens_paths: Sequence[Path | str],
    record_paths: Sequence[Path | str],
    logits_dirs: Sequence[Path | str],
    reference: Path | str,
    dtype: str,
    logit_gap: float | None,
    out_csv: Path | str,
    sampling: str = "greedy",
) -> None:
    """Write equivalence.csv: a verdict an approach. `logit_gap` None takes the dtype's own tolerance."""
    if dtype not in LOGIT_GAP:
        raise ValueError(f"dtype: {dtype!r} has no tolerance for the equality check; use one of {', '.join(LOGIT_GAP)}")
    tolerance = LOGIT_GAP[dtype] if logit_gap is None else logit_gap
    known = Reference(reference)
    tokens = [files.read_json(path, TokensRecord) for path in tokens_paths]
    folders = {
        (Path(folder).parent.name, Path(folder).name.removesuffix(".logits")): Path(folder) for folder in logits_dirs
    }
    rows = []
    records = read_records(record_paths)
    for approach in dict.fromkeys(record.approach for record in records):
        mine = [record for record in records if record.approach == approach]
        skipped = _not_checked(mine, sampling)
        evidence = Evidence()
        for run in (
            [] if skipped else sorted((run for run in tokens if run.approach == approach), key=lambda r: r.repeat)
        ):
            _gather(evidence, run, folders.get((approach, str(run.repeat))), known, tolerance)
        rows.append(_row(approach, evidence, tolerance, skipped))
    write_table(pd.DataFrame(rows), "equivalence", out_csv)


def _not_checked(records: Sequence[RunRecord], sampling: str) -> str:
    """Why an approach cannot be checked, or ""."""
    if records[0].approach in INSTRUMENT:
        return "the instrument computes nothing"
    if all(record.status in ("unavailable", "failed") for record in records):
        return records[0].reason or records[0].status
    if sampling != "greedy":
        return "tokens are sampled: only greedy tokens can be compared"
    return ""


def _gather(evidence: Evidence, run: TokensRecord, folder: Path | None, known: Reference, tolerance: float) -> None:
    for prompt in run.prompts:
        key = (prompt.prompt_length, prompt.prompt_index)
        if key not in known.prompts:
            continue
        evidence.prompts.add(key)
        position = _compare_tokens(evidence, prompt, known, tolerance)
        if prompt.logits_file is None:
            evidence.logits_reason = run.logits_reason or "no logits saved"
        elif folder is None:
            evidence.problems.append(
                f"{prompt.logits_file} of repeat {run.repeat} is named but its folder was not given"
            )
        else:
            _compare_logits(evidence, folder / prompt.logits_file, known.logits(key), position)


def _compare_tokens(evidence: Evidence, prompt: PromptTokens, known: Reference, tolerance: float) -> int | None:
    """Note the first divergence of a prompt; returns its position, None where there is none."""
    key = (prompt.prompt_length, prompt.prompt_index)
    expected, found = known.tokens(key), np.asarray(prompt.tokens, np.int64)
    where = f"prompt {key[0]}/{key[1]}"
    if len(found) != len(expected):
        evidence.problems.append(f"{where} has {len(found)} tokens, the reference {len(expected)}")
    n = min(len(found), len(expected))
    evidence.tokens_compared += n
    best_tokens, best = (array[:n] for array in known.candidates(key))
    if prompt.differing_runs:
        evidence.unstable += prompt.differing_runs
        if n == 0 or float((best[:, 0] - best[:, 1]).min()) > tolerance:
            evidence.problems.append(f"{where} gave other tokens in {prompt.differing_runs} of {prompt.runs} requests")
    differing = np.flatnonzero(found[:n] != expected[:n])
    if not len(differing):
        return None
    at = int(differing[0])
    chosen = np.flatnonzero(best_tokens[at] == found[at])
    # A token that is none of the best candidates is no near-tie, whatever its logit was.
    chosen_gap = float(best[at, 0] - best[at, chosen[0]]) if len(chosen) else np.inf
    evidence.divergences.append(Divergence(*key, at, float(best[at, 0] - best[at, 1]), chosen_gap))
    return at


def _compare_logits(evidence: Evidence, path: Path, expected: np.ndarray, divergence: int | None) -> None:
    """Errors over the positions whose context is the reference's: all up to and including the first divergence."""
    with safe_open(str(path), framework="numpy") as file:
        found = np.asarray(file.get_tensor("logits"), dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != expected.shape[1]:
        evidence.problems.append(f"{path.name}: logits of shape {found.shape}, the reference has {expected.shape}")
        return
    n = min(len(found), len(expected), len(expected) if divergence is None else divergence + 1)
    found, expected = found[:n].astype(np.float64), expected[:n].astype(np.float64)
    if not np.isfinite(found).all():
        evidence.problems.append(f"{path.name}: logits are not finite")
        return
    evidence.max_abs_error = float(np.fmax(evidence.max_abs_error, np.abs(found - expected).max()))
    log_p, log_q = log_softmax(expected, axis=-1), log_softmax(found, axis=-1)
    evidence.kl += (np.exp(log_p) * (log_p - log_q)).sum(axis=-1).tolist()


def _row(approach: str, evidence: Evidence, tolerance: float, skipped: str) -> dict[str, object]:
    beyond = [divergence for divergence in evidence.divergences if divergence.chosen_gap > tolerance]
    candidates = beyond or evidence.divergences
    shown = candidates[0] if candidates else None
    if not skipped and not evidence.prompts:
        skipped = "no tokens of a prompt that the reference holds"
    verdict, reason = _verdict(evidence, beyond, tolerance) if not skipped else ("not checked", skipped)
    return {
        "approach": approach,
        "verdict": verdict,
        "prompts": len(evidence.prompts),
        "tokens_compared": evidence.tokens_compared,
        "divergent_prompts": len({(d.prompt_length, d.prompt_index) for d in evidence.divergences}),
        "first_prompt_length": shown.prompt_length if shown else pd.NA,
        "first_prompt_index": shown.prompt_index if shown else pd.NA,
        "first_position": shown.position if shown else pd.NA,
        "reference_gap": shown.reference_gap if shown else np.nan,
        "chosen_gap": shown.chosen_gap if shown else np.nan,
        "tolerance": tolerance,
        "max_abs_logit_error": evidence.max_abs_error,
        "kl_mean": float(np.mean(evidence.kl)) if evidence.kl else np.nan,
        "kl_max": float(np.max(evidence.kl)) if evidence.kl else np.nan,
        "reason": reason,
    }


def _verdict(evidence: Evidence, beyond: list[Divergence], tolerance: float) -> tuple[str, str]:
    if beyond or evidence.problems:
        first = [
            f"prompt {d.prompt_length}/{d.prompt_index} differs at token {d.position}, where the reference "
            + (
                f"prefers its own by {d.chosen_gap:.3g} (at most {tolerance:.3g})"
                if np.isfinite(d.chosen_gap)
                else "has the token not even among its best"
            )
            for d in beyond[:1]
        ]
        return "different", "; ".join([*first, *dict.fromkeys(evidence.problems)])
    logits = f"logits not compared: {evidence.logits_reason}" if not evidence.kl and evidence.logits_reason else ""
    if evidence.divergences or evidence.unstable:
        worst = max((d.chosen_gap for d in evidence.divergences), default=0.0)
        undecided = f"tokens differ only where the reference was undecided (by {worst:.3g} of {tolerance:.3g})"
        return "equal within tolerance", "; ".join(part for part in (undecided, logits) if part)
    return "equal", logits
