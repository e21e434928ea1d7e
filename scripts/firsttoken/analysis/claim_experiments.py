"""Claims that need an experiment of their own: bounded memory, lengths not captured beforehand, several clients.

Each experiment is one run without repeats, so that these figures have no interval; the sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from firsttoken.analysis.published import Claim
from firsttoken.analysis.statistics import NOTHING, Estimate
from firsttoken.experiment_tables import read_experiment

_GROWS_BYTES = 2**20  # an unbounded pool that grows by less has not been put to the test


@dataclass(frozen=True)
class ClaimVerdict:
    """A verdict on measured data, the figure behind it, and why, without a full stop."""

    verdict: str
    estimate: Estimate
    why: str


def read_experiments(**paths: Path | str | None) -> dict[str, pd.DataFrame]:
    """The tables of the study's experiments by name, without those that were not run."""
    return {name: read_experiment(path, name) for name, path in paths.items() if path is not None}


def judge_experiment(claim: Claim, experiments: Mapping[str, pd.DataFrame]) -> ClaimVerdict:
    """The verdict on a claim of a kind in `EXPERIMENTS`."""
    needed, verdict_on = EXPERIMENTS[claim.kind]
    if needed not in experiments or experiments[needed].empty:
        return ClaimVerdict("not testable here", NOTHING, f"the experiment {needed} was not run in this study")
    return verdict_on(claim, experiments[needed])


def _exact(value: float) -> Estimate:
    return Estimate(value, np.nan, np.nan, 1)


def _bounded_memory(claim: Claim, frame: pd.DataFrame) -> ClaimVerdict:
    """Growth of the rolling pool in the second half of the prompt lengths, as a share of the unbounded pool's.

    By the driver's figure for the whole device, where there is one: it alone has all of a graph's memory.
    """
    columns = ("device_used_bytes", "graph_bytes", "device_reserved_bytes")
    column = next((name for name in columns if frame[name].notna().all()), columns[-1])
    growth = {}
    for mode in ("rolling", "unbounded"):
        steps = frame[frame["mode"] == mode].sort_values("step")[column].dropna().to_numpy(np.float64)
        if len(steps) < 4:
            few = f"the {mode} pool has {len(steps)} steps, 4 are needed"
            return ClaimVerdict("not testable here", NOTHING, few)
        growth[mode] = steps[-1] - steps[len(steps) // 2]
    if growth["unbounded"] < _GROWS_BYTES:
        why = f"even the unbounded pool grew by only {growth['unbounded'] / 2**20:.2f} MiB: nothing to prevent"
        return ClaimVerdict("inconclusive", NOTHING, why)
    share = growth["rolling"] / growth["unbounded"]
    why = (
        f"in the second half of the prompt lengths the rolling pool grew by {growth['rolling'] / 2**20:.1f} MiB, the "
        f"unbounded one by {growth['unbounded'] / 2**20:.1f} MiB (one run each, no interval)"
    )
    verdict = "reproduced" if share <= claim.tolerance else "refuted" if share > 0.5 else "inconclusive"
    return ClaimVerdict(verdict, _exact(float(share)), why)


def _uncaptured(claim: Claim, frame: pd.DataFrame) -> ClaimVerdict:
    """Whether lengths that were not captured beforehand are served, captured, and then as fast as those that were."""
    served = frame.dropna(subset=["ttft_ms"])
    missed = set(served.loc[served["kind"] == "miss", "prompt_length"])
    hit = set(served.loc[(served["kind"] == "after_capture") & served["pool_hit"].fillna(False), "prompt_length"])
    lost = sorted(set(frame["prompt_length"]) - (missed & hit))
    if lost:
        why = f"prompt lengths {', '.join(map(str, lost))} were not served and captured"
        return ClaimVerdict("refuted", _exact(float(len(lost))), why)
    miss, after, beforehand = (_mean_ttft_ms(served, kind) for kind in ("miss", "after_capture", "beforehand"))
    ratio = after / beforehand
    why = (
        f"all {len(missed)} uncaptured prompt lengths up to {max(missed)} tokens were served, first in {miss:.3g} ms, "
        f"once captured in {after:.3g} ms, {beforehand:.3g} ms where captured beforehand (no interval); the KV cache "
        "still bounds them"
    )
    verdict = "reproduced" if ratio <= 1 + claim.tolerance else "inconclusive"
    return ClaimVerdict(verdict, _exact(ratio), why)


def _mean_ttft_ms(frame: pd.DataFrame, kind: str) -> float:
    """Mean over prompt lengths of the median over requests."""
    return float(frame[frame["kind"] == kind].groupby("prompt_length")["ttft_ms"].median().mean())


def _scales(claim: Claim, frame: pd.DataFrame) -> ClaimVerdict:
    """Requests a second with the most clients over those with one, each client waiting for its own answer."""
    two = frame[frame["form"] == "two_processes"]
    counts = sorted(two["clients"].unique())
    if len(counts) < 2:
        return ClaimVerdict("not testable here", NOTHING, "the experiment ipc has only one number of clients")
    one, many = int(counts[0]), int(counts[-1])
    rate = many / one * _request_us(two, one) / _request_us(two, many)
    low, _ = claim.limits
    why = (
        f"{many} clients got {rate:.2f} times the requests a second of {one} from one generator that computes nothing "
        "(no interval)"
    )
    verdict = "reproduced" if rate > low * 1.5 else "refuted" if rate <= low * 1.1 else "inconclusive"
    return ClaimVerdict(verdict, _exact(rate), why)


def _request_us(frame: pd.DataFrame, clients: int) -> float:
    """Mean time of a request: its first token and its gaps."""
    rows = frame[frame["clients"] == clients]
    first, gap = rows[rows["metric"] == "first_token"], rows[rows["metric"] == "token_gap"]
    return float((first["n"] * first["mean_us"]).sum() + (gap["n"] * gap["mean_us"]).sum()) / float(first["n"].sum())


EXPERIMENTS: dict[str, tuple[str, Callable[[Claim, pd.DataFrame], ClaimVerdict]]] = {  # by kind of claim
    "bounded_memory": ("pool_memory", _bounded_memory),
    "uncaptured": ("pool_misses", _uncaptured),
    "scales": ("ipc", _scales),
}
