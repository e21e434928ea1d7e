"""Claims that need an experiment of their own: bounded memory, lengths not captured beforehand, several clients.

Each experiment is one run without repeats, so that these figures have no interval; the sentence says so.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Experiments:
    """Tables of the study's experiments; None where one was not run."""

    pool_memory: pd.DataFrame | None = None
    pool_misses: pd.DataFrame | None = None
    ipc: pd.DataFrame | None = None

    @classmethod
    def read(
        cls, pool_memory: Path | str | None, pool_misses: Path | str | None, ipc: Path | str | None
    ) -> Experiments:
        paths = {"pool_memory": pool_memory, "pool_misses": pool_misses, "ipc": ipc}
        return cls(**{name: read_experiment(path, name) for name, path in paths.items() if path is not None})


def judge_experiment(claim: Claim, experiments: Experiments) -> ClaimVerdict:
    """The verdict on a claim of kind bounded_memory, uncaptured or scales."""
    needed = {"bounded_memory": "pool_memory", "uncaptured": "pool_misses", "scales": "ipc"}[claim.kind]
    frame: pd.DataFrame | None = getattr(experiments, needed)
    if frame is None or frame.empty:
        return ClaimVerdict("not testable here", NOTHING, f"the experiment {needed} was not run in this study")
    return {"bounded_memory": _bounded_memory, "uncaptured": _uncaptured, "scales": _scales}[claim.kind](claim, frame)


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
