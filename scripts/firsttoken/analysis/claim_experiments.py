"""Claims that need an experiment of their own: bounded memory, lengths not captured beforehand, several clients.

Each experiment is one run without repeats, so that these figures have no interval; the sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from firsttoken.analysis.published import Claim
from firsttoken.analysis.statistics import NOTHING, Estimate

_GROWS_BYTES = 2**20  # an unbounded pool that grows by less has not been put to the test


@dataclass(frozen=True)
class Finding:
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
        tables = []
        for path, columns in (
            (pool_memory, ("mode", "step")),
            (pool_misses, ("prompt_length",)),
            (ipc, ("clients", "form", "metric")),
        ):
            tables.append(None if path is None else _read(path, columns))
        return cls(*tables)


def _read(path: Path | str, columns: Iterable[str]) -> pd.DataFrame:
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        raise ValueError(f"{path}: no column {', '.join(absent)}; found {', '.join(map(str, frame.columns))}")
    return frame


def judge_experiment(claim: Claim, experiments: Experiments) -> Finding:
    """The verdict on a claim of kind bounded_memory, uncaptured or scales."""
    needed = {"bounded_memory": "pool_memory", "uncaptured": "pool_misses", "scales": "ipc"}[claim.kind]
    frame: pd.DataFrame | None = getattr(experiments, needed)
    if frame is None or frame.empty:
        return Finding("not testable here", NOTHING, f"the experiment {needed} was not run in this study")
    return {"bounded_memory": _bounded_memory, "uncaptured": _uncaptured, "scales": _scales}[claim.kind](claim, frame)


def _exact(value: float) -> Estimate:
    return Estimate(value, np.nan, np.nan, 1)


def _bounded_memory(claim: Claim, frame: pd.DataFrame) -> Finding:
    """Growth of the rolling pool in the second half of the prompt lengths, as a share of the unbounded pool's."""
    column = "graph_bytes" if "graph_bytes" in frame and frame["graph_bytes"].notna().all() else "device_reserved_bytes"
    growth = {}
    for mode in ("rolling", "unbounded"):
        steps = frame[frame["mode"] == mode].sort_values("step")[column].dropna().to_numpy(np.float64)
        if len(steps) < 4:
            few = f"the {mode} pool has {len(steps)} steps, 4 are needed"
            return Finding("not testable here", NOTHING, few)
        growth[mode] = steps[-1] - steps[len(steps) // 2]
    if growth["unbounded"] < _GROWS_BYTES:
        why = f"even the unbounded pool grew by only {growth['unbounded'] / 2**20:.2f} MiB: nothing to prevent"
        return Finding("inconclusive", NOTHING, why)
    share = growth["rolling"] / growth["unbounded"]
    why = (
        f"in the second half of the prompt lengths the rolling pool grew by {growth['rolling'] / 2**20:.1f} MiB, the "
        f"unbounded one by {growth['unbounded'] / 2**20:.1f} MiB (one run each, no interval)"
    )
    verdict = "reproduced" if share <= claim.tolerance else "refuted" if share > 0.5 else "inconclusive"
    return Finding(verdict, _exact(float(share)), why)


def _uncaptured(claim: Claim, frame: pd.DataFrame) -> Finding:
    """Whether every length that was not captured beforehand gave its first token."""
    served = frame["ttft_ms"].notna() & (frame["ttft_ms"] > 0) if "ttft_ms" in frame else pd.Series(True, frame.index)
    lengths = int(frame["prompt_length"].nunique())
    failed = sorted({int(length) for length in frame.loc[~served, "prompt_length"]})
    if failed:
        return Finding(
            "refuted", _exact(len(failed)), f"no first token at prompt lengths {', '.join(map(str, failed))}"
        )
    longest = int(frame["prompt_length"].max())
    why = f"all {lengths} prompt lengths were served, up to {longest} tokens; but the KV cache bounds them"
    return Finding("inconclusive", _exact(float(lengths)), why)


def _scales(claim: Claim, frame: pd.DataFrame) -> Finding:
    """Requests a second with the most clients over those with one, each client waiting for its own answer."""
    two = frame[frame["form"] == "two_processes"]
    counts = sorted(two["clients"].unique())
    if len(counts) < 2:
        return Finding("not testable here", NOTHING, "the experiment ipc has only one number of clients")
    one, many = int(counts[0]), int(counts[-1])
    rate = many / one * _request_us(two, one) / _request_us(two, many)
    low, _ = claim.limits
    why = (
        f"{many} clients got {rate:.2f} times the requests a second of {one} from one generator that computes nothing "
        "(no interval)"
    )
    verdict = "reproduced" if rate > low * 1.5 else "refuted" if rate <= low * 1.1 else "inconclusive"
    return Finding(verdict, _exact(rate), why)


def _request_us(frame: pd.DataFrame, clients: int) -> float:
    """Mean time of a request: its first token and its gaps."""
    rows = frame[frame["clients"] == clients]
    first, gap = rows[rows["metric"] == "first_token"], rows[rows["metric"] == "token_gap"]
    return float((first["n"] * first["mean_us"]).sum() + (gap["n"] * gap["mean_us"]).sum()) / float(first["n"].sum())
