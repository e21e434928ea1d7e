"""Signs that approaches did not meet the same machine: others used it, or they did not take turns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from firsttoken.analysis.processes import ProcessTable
from firsttoken.pooled_runs import RAN
from firsttoken.results import Environment, RunRecord

SWING = 1.5  # the slowest process of an approach over its fastest
LOAD = 0.2  # share of the cores that others used during the usual process


def busy(processes: ProcessTable, approaches: Sequence[str], records: Sequence[RunRecord], machine: Environment) -> str:
    """The signs in one sentence with what to do, or "". `approaches` are those with latencies.

    Load tells that others worked. Processes also differ for reasons of their own, so that a swing alone is no proof.
    """
    signs, sure = [], "may not have been"
    others = [run.telemetry.other_cores_median for run in records if run.telemetry.other_cores_median is not None]
    if others and (usual := float(np.median(others))) > LOAD * machine.cores:
        signs.append(f"other programs kept {usual:.2g} of {machine.cores} cores busy")
        sure = "was not"
    logs = {name: processes.logs(name, "ttft", "mean", processes.lengths) for name in approaches}
    swings = {name: float(np.exp(np.ptp(values))) for name, values in logs.items() if len(values)}
    if swings and (swing := max(swings.values())) > SWING:
        worst = max(swings, key=swings.__getitem__)
        signs.append(f"the slowest process of {worst} took {swing:.2g} times as long as its fastest")
    if not signs:
        return ""
    return f"This machine {sure} quiet: {'; '.join(signs)}. Repeat the study on a quiet machine."


def not_interleaved(records: Sequence[RunRecord]) -> str:
    """Which run of a later repeat had ended when one of an earlier repeat began, or "": drift would fall on some alone.

    On several GPUs the last runs of a repeat and the first of the next are side by side. Times are whole seconds.
    """
    ran = [
        (run, began := datetime.fromisoformat(run.started_at), began + timedelta(seconds=run.duration_s + 1))
        for run in sorted(records, key=lambda run: (-run.repeat, run.started_at))
        if run.status in RAN and run.started_at
    ]
    for after, began, _ in sorted(ran, key=lambda run: (run[1], run[0].repeat)):
        for before, _, ended in ran:
            if before.repeat > after.repeat and ended <= began:
                return f"{before.approach}/{before.repeat} ran before {after.approach}/{after.repeat}"
    return ""
