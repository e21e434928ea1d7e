"""What every approach chose and computed at every position of the reference's texts: the table of positions.

A row is one position of one prompt of one approach. Tokens of all requests of all processes are compared as long as
their text is the reference's; teacher-forced logits, where offered, at every position.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

from firsttoken.analysis.logit_errors import logit_errors
from firsttoken.analysis.schemas import TABLES, write_table
from firsttoken.pooled_runs import RAN, by_approach, read_records, read_tokens
from firsttoken.results import RunRecord, TokensRecord

Key = tuple[int, int]  # prompt length, prompt index
Tokens = tuple[int, ...]


class Reference:
    """Eager float32 tokens and logits, read one prompt at a time."""

    def __init__(self, path: Path | str) -> None:
        self._file = safe_open(str(path), framework="numpy")
        keys = [name.split("/") for name in self._file.keys() if name.startswith("tokens/")]  # noqa: SIM118
        self.layers = int(self._file.metadata()["layers"])
        self.prompts: set[Key] = {(int(length), int(index)) for _, length, index in keys}

    def tokens(self, key: Key) -> Tokens:
        """[new_tokens]"""
        return tuple(int(token) for token in np.ravel(self._file.get_tensor(f"tokens/{key[0]}/{key[1]}")))

    def spread(self, key: Key) -> np.ndarray:
        """Standard deviation of the logits over the vocabulary, [new_tokens]."""
        return np.asarray(self._file.get_tensor(f"spread/{key[0]}/{key[1]}"), dtype=np.float64)

    def gaps(self, key: Key) -> list[dict[int, float]]:
        """For each position how far below the best logit each of the best tokens is; [new_tokens]."""
        name = f"{key[0]}/{key[1]}"
        tokens = np.asarray(self._file.get_tensor(f"top_tokens/{name}"))
        logits = np.asarray(self._file.get_tensor(f"top_logits/{name}"), dtype=np.float64)
        below = logits[:, :1] - logits
        return [dict(zip(row, gap, strict=True)) for row, gap in zip(tokens.tolist(), below.tolist(), strict=True)]

    def logits(self, key: Key) -> np.ndarray:
        """[new_tokens, vocab]"""
        return np.asarray(self._file.get_tensor(f"logits/{key[0]}/{key[1]}"), dtype=np.float32)


def compare_with_reference(
    records: Path | str, logits_dirs: Sequence[Path | str], reference: Path | str, out_positions: Path | str
) -> None:
    """Write equality_positions.csv, from which verdicts can be made without the logits. `logits_dirs` are
    `raw/{approach}/{repeat}.logits`."""
    known = Reference(reference)
    folders: dict[str, dict[int, Path]] = defaultdict(dict)
    for folder in map(Path, logits_dirs):
        folders[folder.parent.name][int(folder.name.removesuffix(".logits"))] = folder
    runs = read_tokens(records)
    frames = [
        compare_positions(approach, [run for run in runs if run.approach == approach], folders[approach], known)
        for approach, skipped in skipped_approaches(read_records(records)).items()
        if not skipped
    ]
    empty = pd.DataFrame(columns=list(TABLES["equality_positions"]))
    write_table(pd.concat(frames, ignore_index=True) if frames else empty, "equality_positions", out_positions)


def skipped_approaches(records: Sequence[RunRecord]) -> dict[str, str]:
    """For each approach why it cannot be compared, or ""; the instrument computes nothing and is left out."""
    return {
        approach: "" if any(run.status in RAN for run in runs) else runs[0].reason or runs[0].status
        for approach, runs in by_approach(records).items()
    }


def compare_positions(
    approach: str, runs: Sequence[TokensRecord], logits_folders: Mapping[int, Path], reference: Reference
) -> pd.DataFrame:
    """The rows of one approach; `runs` are its processes, `logits_folders` holds their logits by repeat."""
    answers: dict[Key, Counter[Tokens]] = defaultdict(Counter)
    logits: dict[Key, Path] = {}
    for run in runs:
        for prompt in run.prompts:
            key = (prompt.prompt_length, prompt.prompt_index)
            if key not in reference.prompts:
                continue
            answers[key].update({each.tokens: each.requests for each in prompt.answers})
            if prompt.logits_file is not None:
                logits.setdefault(key, logits_folders[run.repeat] / prompt.logits_file)
    rows: list[dict[str, object]] = []
    for key in sorted(answers):
        chosen = _compare_tokens(answers[key], reference.tokens(key), reference.gaps(key))
        computed = _compare_logits(logits.get(key), key, reference)
        note = _count_note(answers[key], len(chosen))
        for position, (tokens, errors) in enumerate(zip(chosen, computed, strict=True)):
            where = {"prompt_length": key[0], "prompt_index": key[1], "position": position}
            rows.append({"approach": approach, "layers": reference.layers, **where, **tokens, "note": note, **errors})
    return pd.DataFrame(rows, columns=list(TABLES["equality_positions"]))


def _compare_tokens(
    answers: Counter[Tokens], expected: Tokens, gaps: Sequence[dict[int, float]]
) -> list[dict[str, object]]:
    """For each position: requests whose text was the reference's so far, how many of them chose another token, how far
    below the best it was, and how many requests differ from others of the same text where that is not the
    reference's."""
    rows: list[dict[str, object]] = []
    for position, best in enumerate(gaps):
        wanted = expected[position]
        by_text: dict[Tokens, Counter[int]] = defaultdict(Counter)
        for tokens, requests in answers.items():
            if position < len(tokens):
                by_text[tokens[:position]][tokens[position]] += requests
        here = by_text.pop(expected[:position], Counter())
        others = {token: requests for token, requests in here.items() if token != wanted}
        ordered = sorted(best.values())
        rows.append(
            {
                "reference_gap": ordered[1] if len(ordered) > 1 else np.inf,
                "requests": sum(here.values()),
                "differing": sum(others.values()),
                # A token that is none of the reference's best is no near tie, whatever its logit was.
                "chosen_gap": max((best.get(token, np.inf) for token in others), default=0.0),
                "unstable": sum(sum(found.values()) - max(found.values()) for found in by_text.values()),
            }
        )
    return rows


def _count_note(answers: Counter[Tokens], expected: int) -> str:
    wrong = sorted({len(tokens) for tokens in answers} - {expected})
    return f"{wrong[0]} tokens, the reference has {expected}" if wrong else ""


def _compare_logits(path: Path | None, key: Key, reference: Reference) -> list[dict[str, object]]:
    """For each position the errors of the teacher-forced logits, and how far the token that they favour is below the
    reference's best; only the spread where no logits are offered."""
    spread = reference.spread(key)
    if path is None:
        return [{"spread": value} for value in spread.tolist()]
    with safe_open(str(path), framework="numpy") as file:
        found = np.asarray(file.get_tensor("logits"), dtype=np.float32)
    expected = reference.logits(key)
    if found.shape != expected.shape:
        note = f"{path.name}: logits of shape {list(found.shape)}, the reference has {list(expected.shape)}"
        return [{"spread": value, "note": note} for value in spread.tolist()]
    errors = logit_errors(expected, found)
    favoured = np.where(np.isfinite(found).all(axis=-1), found.argmax(axis=-1), expected.argmax(axis=-1))
    forced_gap = expected.max(axis=-1) - np.take_along_axis(expected, favoured[:, None], axis=-1)[:, 0]
    table = pd.DataFrame({**vars(errors), "forced_gap": forced_gap.astype(float)})
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
