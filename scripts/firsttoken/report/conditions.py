"""The conditions of a study in words: machine, model, method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from firsttoken.files import read_json
from firsttoken.plan import ModelManifest
from firsttoken.report import formatting
from firsttoken.results import Environment


class Conditions(NamedTuple):
    """The machine's record, and each of the three in words."""

    environment: Environment
    machine: str
    model: str
    method: str


def read_conditions(environment: Path, manifest: Path, workload: Mapping[str, Any], dtype: str) -> Conditions:
    """Those of a study; `workload` is that of the config."""
    found, model = read_json(environment, Environment), read_json(manifest, ModelManifest)
    return Conditions(found, machine_line(found), model_line(model, dtype), method_line(workload))


def machine_line(environment: Environment) -> str:
    """GPU, processor, memory, system and packages."""
    named = [name for name in ("torch", "transformers") if name in environment.packages]
    packages = ", ".join(f"{name} {environment.packages[name]}" for name in named)
    memory_gib = environment.memory_bytes / 2**30
    host = f"{environment.cpu}, {environment.cores} cores, {memory_gib:.0f} GiB; {environment.os}"
    python = f"Python {environment.python}, {packages}"
    if environment.gpu is None:
        threads = "1 thread" if environment.threads == 1 else f"{environment.threads} threads"
        return f"No GPU; {host}; {threads} for the model; {python}."
    gpu = f"{environment.gpu.name} ({environment.gpu.memory_bytes / 2**30:.0f} GiB, driver {environment.driver})"
    used = "" if environment.device == "cuda" else ", not used by this study"
    return f"{gpu}{used}; {host}; CUDA {environment.cuda}; {python}."


def model_line(manifest: ModelManifest, dtype: str) -> str:
    """Name, size, weights, dtype and origin."""
    size = f"{formatting.number(manifest.parameters / 1e6)} million parameters"
    return f"{manifest.name}: {manifest.architecture}, {size}, {manifest.weights} weights, {dtype}; {manifest.origin}."


def method_line(workload: Mapping[str, Any]) -> str:
    """Processes, requests, prompts and tokens."""
    lengths = ", ".join(str(length) for length in workload["prompt_lengths"])
    sampling = "greedy" if workload.get("sampling", "greedy") == "greedy" else "sampled"
    processes = "1 fresh process" if workload["repeats"] == 1 else f"{workload['repeats']} fresh processes"
    return (
        f"Each approach ran in {processes}. Each process ran {workload['requests']} warm "
        f"requests for every prompt length ({lengths} tokens), one after another, at batch size 1. Each request "
        f"generated {workload['new_tokens']} {sampling} tokens; end-of-sequence was ignored. A token is timed when the "
        "client can read it. Intervals are 95 % intervals over processes."
    )
