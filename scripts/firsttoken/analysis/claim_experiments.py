"""Readings of claims that need an experiment: memory of the pool, lengths not captured beforehand, several clients.

An experiment without repeats gives a figure without interval; the reading's file then says between which limits that
figure decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from firsttoken.analysis.claim_files import Clients, PoolMemory, PoolMisses
from firsttoken.analysis.claim_readings import NOT_TESTABLE, ONE_RUN, Finding, against, exact
from firsttoken.analysis.statistics import MIN_PROCESSES, paired_ratio


def judge_experiment(reading: PoolMemory | PoolMisses | Clients, experiments: Mapping[str, pd.DataFrame]) -> Finding:
    """The verdict on a reading whose kind is the name of the experiment that it needs."""
    name = str(type(reading).__struct_config__.tag)
    if name not in experiments or experiments[name].empty:
        return Finding(NOT_TESTABLE, f"the experiment {name} was not run in this study")
    match reading:
        case PoolMemory():
            return _pool_memory(reading, experiments[name])
        case PoolMisses():
            return _pool_misses(reading, experiments[name])
        case Clients():
            return _clients(reading, experiments[name])


def _pool_memory(reading: PoolMemory, frame: pd.DataFrame) -> Finding:
    """Growth of the rolling pool in the second half of the prompt lengths, as a share of the unbounded pool's.

    By the driver's figure for the whole device, where there is one: it alone has all of a graph's memory.
    """
    columns = ("device_used_bytes", "graph_bytes", "device_reserved_bytes")
    column = next((name for name in columns if frame[name].notna().all()), columns[-1])
    growth_mib = {}
    for mode in ("rolling", "unbounded"):
        steps = frame[frame["mode"] == mode].sort_values("step")[column].dropna().to_numpy(np.float64)
        if len(steps) < reading.least_steps:
            few = f"the {mode} pool has {len(steps)} steps, {reading.least_steps} are needed"
            return Finding(NOT_TESTABLE, few)
        growth_mib[mode] = (steps[-1] - steps[len(steps) // 2]) / 2**20
    if growth_mib["unbounded"] < reading.least_growth_mib:
        why = f"even the unbounded pool grew by only {growth_mib['unbounded']:.2f} MiB: nothing to prevent"
        return Finding("inconclusive", why)
    what = (
        f"in the second half of the prompt lengths the rolling pool grew by {growth_mib['rolling']:.1f} MiB, the "
        f"unbounded one by {growth_mib['unbounded']:.1f} MiB: a share of"
    )
    return against(reading, exact(growth_mib["rolling"] / growth_mib["unbounded"]), what)


def _pool_misses(reading: PoolMisses, frame: pd.DataFrame) -> Finding:
    """Whether lengths that were not captured beforehand are served, captured, and then as fast as those that were."""
    served = frame.dropna(subset=["ttft_ms"])
    missed = set(served.loc[served["kind"] == "miss", "prompt_length"])
    first = served[served["request"] == 0]
    shared = set(first.loc[first["kind"] == "after_capture", "prompt_length"])  # another length had captured its bucket
    hit = set(served.loc[(served["kind"] == "after_capture") & served["pool_hit"].fillna(False), "prompt_length"])
    lost = sorted(set(frame["prompt_length"]) - ((missed | shared) & hit))
    if lost:
        why = f"prompt lengths {', '.join(map(str, lost))} were not served and captured"
        return Finding("refuted", why, exact(len(lost)))
    if not missed:
        return Finding(NOT_TESTABLE, "every prompt length shares its bucket with one that was captured")
    medians = served.groupby(["kind", "prompt_length"])["ttft_ms"].median().groupby("kind").mean()
    what = (
        f"all {len(missed)} uncaptured prompt lengths up to {max(missed)} tokens were served, first in "
        f"{medians['miss']:.3g} ms, once captured in {medians['after_capture']:.3g} ms, {medians['beforehand']:.3g} ms "
        "where captured beforehand: a ratio of"
    )
    return against(reading, exact(medians["after_capture"] / medians["beforehand"]), what)


def _clients(reading: Clients, frame: pd.DataFrame) -> Finding:
    """One load over another, by rounds: the interval is over rounds where there are enough of them."""
    frame = frame.assign(requests_per_s=frame["requests"] / frame["duration_s"])
    loads = []
    for arrangement, clients in reading.operands:
        rows = frame[(frame["arrangement"] == arrangement) & (frame["clients"] == clients)]
        figures = rows.set_index("round")[reading.metric].dropna()
        if figures.empty:
            reasons = "; ".join(sorted(set(rows["reason"]) - {""})) or "it was not run"
            return Finding(NOT_TESTABLE, f"{arrangement} with {clients} clients has no figures ({reasons})")
        loads.append(figures)
    logs = np.log(pd.concat(loads, axis=1, join="inner").to_numpy(np.float64))
    ratio = paired_ratio(logs[:, 0], logs[:, 1])
    if len(logs) < MIN_PROCESSES:
        ratio = exact(ratio.value, ONE_RUN if len(logs) == 1 else f"{len(logs)} rounds")
    (first, m), (second, n) = reading.operands
    return against(reading, ratio, f"{reading.metric} of {first} with {m} clients / {second} with {n} is")
