"""Is this GPU check slower than the committed one? `make gpu-check` compares with results/reference/gpu-check*.

Compared are the median TTFT at each prompt length and the median time a token, by approach, on the same GPU model only.
Slower is what exceeds the baseline by more than TOLERANCE. Another process, another hour or another card can differ by
as much, so a line here is a reason to measure again and no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firsttoken.analysis.requests import over_repeats, read_requests
from firsttoken.files import read_json
from firsttoken.results import Environment

TOLERANCE = 0.02  # repeats of the same code on one card differed by up to 1.2 %
METRICS = {"ttft": "TTFT", "itl_request_mean": "time a token"}


def compare_with_baseline(study: Path, baselines: Sequence[Path]) -> list[str]:
    """The lines that `make gpu-check` prints; all are folders of studies."""
    found = gpu_name(study)
    baseline = next((folder for folder in baselines if gpu_name(folder) == found), None)
    if baseline is None:
        known = ", ".join(map(gpu_name, baselines)) or "none"
        return [f"baseline: nothing is compared, since none was measured on {found}; there are: {known}"]
    now, then = medians_ms(study), medians_ms(baseline)
    lines, slower = [], 0
    for what, then_ms in then.items():
        if what not in now:
            lines.append(f"baseline: {what}: not measured here")
            continue
        change = now[what] / then_ms - 1
        verdict = "same" if abs(change) <= TOLERANCE else "SLOWER" if change > 0 else "faster"
        slower += verdict == "SLOWER"
        lines.append(f"baseline: {what}: {now[what]:.3f} ms, baseline {then_ms:.3f} ms ({change:+.1%}): {verdict}")
    compared = len(then.keys() & now.keys())
    return [*lines, f"baseline: {slower} of {compared} figures are slower than in {baseline} by over {TOLERANCE:.0%}"]


def gpu_name(study: Path) -> str:
    gpu = read_json(study / "environment.json", Environment).gpu
    return gpu.name if gpu else "no GPU"


def medians_ms(study: Path) -> dict[str, float]:
    """Every figure by its name, over all requests of the study."""
    requests = read_requests(study / "samples.parquet")
    codes, keys = over_repeats(requests.cells)
    medians = {}
    for metric, name in METRICS.items():
        groups = codes[requests.groups[metric]]
        for place, (approach, length) in enumerate(keys):
            values = requests.values[metric][groups == place]
            if len(values) and not approach.startswith("null"):
                medians[f"{approach}, {name} at {length} prompt tokens"] = float(np.median(values))
    return medians
