"""Whether an approach computes the same function as the eager float32 reference.

An approach passes when its teacher-forced log-probabilities are close enough at every position, and its greedy tokens
are the reference's wherever the reference was decided. Close enough means two bounds at once: an absolute one for the
dtype and the model's depth (`equality_bounds`), and HEADROOM times what the `baseline` differs by in this study, in
the quadratic mean over all positions (SINGLE_HEADROOM times its largest error at a single one).
Verdicts are made from the table of positions alone, so that a shipped study needs no logits. An approach that is
another function by design is `approximate`: its error is told, and fails no check.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from firsttoken.analysis.equality_bounds import GAP_FACTOR, HEADROOM, MEASURES, Limits, read_limits
from firsttoken.analysis.equality_positions import skipped_approaches
from firsttoken.analysis.logit_errors import Floats, LogitErrors
from firsttoken.analysis.schemas import TABLES, read_table, write_table
from firsttoken.pooled_runs import read_records
from firsttoken.results import RunRecord

YARDSTICK = "baseline"  # the approach whose own error bounds that of the others
# A single position scatters more than the quadratic mean: of 8 positions of a trained model in bfloat16 a correct
# engine's largest error was 1.51 times the baseline's.
SINGLE_HEADROOM = 3.0
STRONG_SHARE = 0.5  # of positions that must be decided for tokens to say much
NAMES = {"rms": "RMS error over spread", "kl": "sqrt(2 KL) over spread", "slope": "distance of the slope from 1"}


def check_equivalence(
    positions: Path | str, records: Path | str, bounds: Path | str, dtype: str, sampling: str, out_csv: Path | str
) -> None:
    """Write equivalence.csv from equality_positions.csv; `sampling` is `greedy` or `sample`."""
    write_table(judge_study(positions, read_records(records), bounds, dtype, sampling), "equivalence", out_csv)


def judge_study(
    positions: Path | str, records: Sequence[RunRecord], bounds: Path | str, dtype: str, sampling: str
) -> pd.DataFrame:
    """The table `equivalence` of a study from its equality_positions.csv."""
    frame = read_table(positions, "equality_positions")
    # Without positions there is no depth, and nothing to hold against a bound.
    limits = read_limits(bounds, dtype, int(frame["layers"].max()) if len(frame) else 1)
    approximate = {record.approach for record in records if record.status == "approximate"}
    return judge_all(frame, skipped_approaches(records), limits, sampling, approximate)


def judge_all(
    positions: pd.DataFrame,
    skipped: Mapping[str, str],
    limits: Limits,
    sampling: str,
    approximate: Collection[str] = (),
) -> pd.DataFrame:
    """The table `equivalence` of all approaches in `skipped`, which says why one cannot be checked, or ""."""
    baseline = positions[positions["approach"] == YARDSTICK]
    rows = []
    for approach, reason in skipped.items():
        mine = positions[positions["approach"] == approach]
        yardstick = baseline if approach != YARDSTICK else baseline.iloc[:0]
        row = judge(mine, yardstick, limits, sampling, reason)
        if approach in approximate and not reason:
            row |= _approximate(_Computed(mine), row)
        rows.append({"approach": approach, **row})
    return pd.DataFrame(rows, columns=list(TABLES["equivalence"]))


def judge(
    positions: pd.DataFrame, baseline: pd.DataFrame, limits: Limits, sampling: str = "greedy", skipped: str = ""
) -> dict[str, object]:
    """The verdict on one approach, with what it rests on; `baseline` has its positions, or none.

    `positions` are rows of `equality_positions`. Of each measure the largest distance is shown, beside its bound.
    """
    mine, theirs = _Computed(positions), _Computed(baseline)
    largest = {name: float(theirs.at(name).max(initial=0)) if theirs.offered.any() else None for name in MEASURES}
    bounds = {name: _bound(largest[name], SINGLE_HEADROOM, limits, name) for name in MEASURES}
    gap_bound = GAP_FACTOR * _bound(largest["rms"], HEADROOM, limits, "rms")
    tokens = _Chosen(positions, gap_bound * positions["spread"].to_numpy(float))
    greedy = sampling == "greedy"
    problems = [
        *[_where(row, row["note"]) for row in mine.rows if row["note"]][:1],
        *_error_problems(mine, bounds, limits),
        *_typical_problems(mine, theirs, limits),
        *(_token_problems(mine.rows, tokens) if greedy else []),
    ]
    share = float(tokens.decided[tokens.compared].mean()) if greedy and tokens.compared.any() else np.nan
    if not skipped and not mine.rows:
        skipped = "no position that the reference holds"
    if not skipped and not problems and not greedy and not mine.offered.any():
        skipped = "sampled tokens, and no logits to compare"
    if skipped:
        verdict, reason = "not checked", skipped
    elif problems:
        verdict, reason = "different", "; ".join(problems)
    else:
        tolerated = greedy and bool(tokens.differing.any())
        verdict, reason = (
            "equal within tolerance" if tolerated else "equal",
            _remark(mine.rows, share, bool(mine.offered.any())),
        )
    at = int(np.argmax(tokens.gap)) if greedy and tokens.differing.any() else None
    return {
        "verdict": verdict,
        "prompts": len({(row["prompt_length"], row["prompt_index"]) for row in mine.rows}),
        "positions": int(tokens.compared.sum()) if greedy else 0,
        "decided_share": share,
        "token_check": "none" if np.isnan(share) else "strong" if share >= STRONG_SHARE else "weak",
        "differing_positions": int(tokens.differing.sum()) if greedy else 0,
        "largest_gap": np.nan if at is None else tokens.gap[at],
        "gap_bound": tokens.bound[at] if at is not None else np.median(tokens.bound) if mine.rows else np.nan,
        "logit_positions": int(mine.offered.sum()),
        **{f"{name}_error": mine.at(name).max(initial=0) if mine.offered.any() else np.nan for name in MEASURES},
        **{f"{name}_bound": bounds[name] if mine.offered.any() else np.nan for name in MEASURES},
        "kl_mean": positions["kl"].mean(),
        "kl_max": positions["kl"].max(),
        "top1_agreement": (positions.loc[mine.offered, "forced_gap"] == 0).mean(),
        "slope_min": positions["slope"].min(),
        "slope_max": positions["slope"].max(),
        "reason": reason,
    }


def position_distances(positions: pd.DataFrame) -> dict[str, Floats]:
    """`LogitErrors.distances` of rows of `equality_positions`; NaN where there are no logits."""
    return LogitErrors(*(positions[name].to_numpy(float) for name in ("spread", "rms_error", "kl", "slope"))).distances


class _Computed:
    """What an approach computed, a row a position."""

    def __init__(self, positions: pd.DataFrame) -> None:
        self.rows: list[Any] = positions.to_dict("records")
        self.offered = positions["rms_error"].notna().to_numpy()  # where there are logits
        self.distances = position_distances(positions)

    def at(self, name: str) -> Floats:
        """One measure at every position with logits."""
        return np.asarray(self.distances[name][self.offered])


class _Chosen:
    """What an approach chose, each `[positions]`.

    `bound` in nats: a gap of the reference's two best tokens beyond it means that the reference was decided.
    """

    def __init__(self, positions: pd.DataFrame, bound: Floats) -> None:
        gap = np.fmax(positions["chosen_gap"].to_numpy(float), positions["forced_gap"].to_numpy(float))
        self.bound = bound
        self.decided = positions["reference_gap"].to_numpy(float) > bound
        self.compared = positions["requests"].to_numpy() > 0  # where requests had the reference's text
        # of them, where a request, or the teacher-forced logits, favour another token
        self.differing = self.compared & ((positions["differing"].to_numpy() > 0) | (gap > 0))
        self.gap = np.where(self.differing, gap, 0)  # nats from the reference's best token to the worst of those


def _bound(baseline: float | None, headroom: float, limits: Limits, name: str) -> float:
    """The tighter of the absolute bound and what the baseline's own error gives; None: there is no baseline."""
    if baseline is None:
        return limits.absolute[name]
    return min(limits.absolute[name], max(headroom * baseline, limits.least[name]))


def _approximate(mine: _Computed, row: Mapping[str, object]) -> dict[str, object]:
    """Verdict and reason of an approach whose error is by design: only what gives no error to tell is wrong."""
    problems = [_where(row, row["note"]) for row in mine.rows if row["note"]][:1] or _not_finite(mine)
    if problems or not mine.offered.any():
        return {"verdict": "different", "reason": "; ".join(problems) or "no logits, so that its error is not known"}
    told = (
        f"mean KL {row['kl_mean']:.3g} nats, largest RMS error {row['rms_error']:.3g} of the spread, "
        f"top-1 agreement {row['top1_agreement']:.1%}"
    )
    return {"verdict": "approximate", "reason": told}


def _not_finite(mine: _Computed) -> list[str]:
    endless = np.flatnonzero(np.isinf(mine.distances["rms"]))
    return [_where(mine.rows[endless[0]], "logits are not finite")] if len(endless) else []


def _error_problems(mine: _Computed, bounds: Mapping[str, float], limits: Limits) -> list[str]:
    """The worst offence of each measure; NaN, as of a constant distribution, offends too."""
    if problems := _not_finite(mine):
        return problems
    for name in MEASURES:
        found, bound = mine.distances[name], bounds[name]
        beyond = mine.offered & ~(found <= bound)
        if beyond.any():
            at = int(np.argmax(np.where(beyond, np.nan_to_num(found / bound, nan=np.inf), 0)))
            source = "absolute" if bound == limits.absolute[name] else f"{SINGLE_HEADROOM:g} times the baseline's"
            what = f"{NAMES[name]} {found[at]:.3g}, bound {bound:.3g} ({source})"
            problems.append(_where(mine.rows[at], what))
    return problems


def _typical_problems(mine: _Computed, baseline: _Computed, limits: Limits) -> list[str]:
    """Errors that are larger than the baseline's at most positions, without one that stands out."""
    problems = []
    for name in MEASURES if mine.offered.any() and baseline.offered.any() else ():
        typical = _quadratic_mean(mine.at(name))
        bound = _bound(_quadratic_mean(baseline.at(name)), HEADROOM, limits, name)
        if typical > bound:
            source = f"{HEADROOM:g} times the baseline's"
            problems.append(f"{NAMES[name]} over all positions {typical:.3g}, bound {bound:.3g} ({source})")
    return problems


def _quadratic_mean(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))


def _token_problems(rows: Sequence[Mapping[str, Any]], tokens: _Chosen) -> list[str]:
    """The first position where a token differs and the reference was decided."""
    problems = []
    for column, verb in (("chosen_gap", "chose"), ("forced_gap", "teacher-forced, favours")):
        for row, bound in zip(rows, tokens.bound, strict=True):
            if row[column] > bound:
                far = f"{row[column]:.3g} nats below" if np.isfinite(row[column]) else "not even among"
                problems.append(_where(row, f"{verb} a token that is {far} the reference's best (at most {bound:.3g})"))
                break
    return problems


def _where(row: Mapping[str, Any], what: object) -> str:
    return f"prompt {row['prompt_length']}/{row['prompt_index']}, token {row['position']}: {what}"


def _remark(rows: Sequence[Mapping[str, Any]], decided_share: float, offered: bool) -> str:
    """What a reader should know of a check that was passed.

    After a near tie a request has a text of its own. Where requests with the same text of that kind then differ, the
    reference cannot say whether that was a near tie, too.
    """
    remarks = [
        _where(row, f"{row['unstable']} requests chose another token than the rest; their text was not the reference's")
        for row in [row for row in rows if row["unstable"] > 0][:1]
    ]
    if decided_share < STRONG_SHARE:
        remarks.append("token check weak: the reference was decided at less than half of the positions")
    if not offered:
        remarks.append("tokens only: there are no logits to compare")
    return "; ".join(remarks)
