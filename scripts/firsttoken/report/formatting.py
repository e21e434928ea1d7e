"""Figures and facts of a study in words: how a latency, a machine, a model and a method are written everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firsttoken.plan import ModelManifest
from firsttoken.results import Environment

NO_VALUE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, thousands separated, an exponent below 0.0001; a dash where there is no value."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def interval(low: float | None, high: float | None) -> str:
    """`4.05 to 4.38`, or nothing where there is no interval: the baseline against itself has none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or low == high:
        return ""
    return f"{number(low)} to {number(high)}"


def with_interval(row: Mapping[str, Any], name: str, unit: str = "") -> str:
    """`4.21 (4.05 to 4.38)` from the columns `name`, `name_low` and `name_high`, each with the suffix `unit`: `_ms`."""
    value = number(row.get(f"{name}{unit}"))
    found = interval(row.get(f"{name}_low{unit}"), row.get(f"{name}_high{unit}"))
    return f"{value} ({found})" if found else value


def floor(row: Mapping[str, Any], metric: str) -> str:
    """`6.48 ms, 46 % of the mean`: this device's floor of `ttft` or `itl` in a row of the summary, and its share."""
    share = row.get(f"{metric}_share_of_floor")
    found = number(row.get(f"floor_{metric}_ms"))
    return NO_VALUE if found == NO_VALUE or percent(share) == NO_VALUE else f"{found} ms, {percent(share)} of the mean"


def percent(share: float | None) -> str:
    """`46 %`, or a dash; its space does not break."""
    return NO_VALUE if share is None or not math.isfinite(share) else f"{100 * share:.2g}\N{NO-BREAK SPACE}%"


def verdict(answer_txt: Path) -> list[str]:
    """The three sentences of `answer.txt`: what stands behind its last empty line, after the table for a terminal."""
    return answer_txt.read_text(encoding="utf-8").strip().split("\n\n")[-1].splitlines()


def machine(environment: Environment) -> str:
    """One sentence on the machine."""
    named = [name for name in ("torch", "transformers") if name in environment.packages]
    packages = ", ".join(f"{name} {environment.packages[name]}" for name in named)
    memory_gib = environment.memory_bytes / 2**30
    host = f"{environment.cpu}, {environment.cores} cores, {memory_gib:.0f} GiB; {environment.os}"
    python = f"Python {environment.python}, {packages}"
    if environment.gpu is None:
        return f"No GPU; {host}; {threads(environment.threads)} for the model; {python}."
    gpu = f"{environment.gpu.name} ({environment.gpu.memory_bytes / 2**30:.0f} GiB, driver {environment.driver})"
    used = "" if environment.device == "cuda" else ", which this study did not use"
    return f"{gpu}{used}; {host}; CUDA {environment.cuda}; {python}."


def threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def model(manifest: ModelManifest, dtype: str) -> str:
    """One sentence on the model; random weights are called random."""
    random = "random weights (latency does not depend on their values)"
    weights = random if manifest.weights == "random" else "trained weights"
    return (
        f"{manifest.name}: {manifest.architecture}, {number(manifest.parameters / 1e6)} million parameters, {weights}, "
        f"{dtype}; {manifest.origin}."
    )


def method(workload: Mapping[str, Any], processes: int) -> str:
    """How it was measured, for a reader in a hurry."""
    lengths = ", ".join(str(length) for length in workload["prompt_lengths"])
    sampling = "greedy" if workload.get("sampling", "greedy") == "greedy" else "sampled"
    tokens = f"{workload['new_tokens']} new {sampling} tokens"
    return (
        f"Each approach ran in {processes} fresh processes, each of which answered {workload['requests']} warm "
        f"requests at every prompt length ({lengths} tokens), one after another, batch size 1, {tokens} a request, end "
        "of sequence ignored. A token counts from the moment the client can read it. "
        "Intervals are 95 % and take the process, not the request, as the unit."
    )
