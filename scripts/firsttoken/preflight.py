"""What can be said of a study before any job runs: its config, its model, what can run here, and what it needs."""

from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from firsttoken.analysis.claim_files import read_publications
from firsttoken.approaches.base import approach_class, approach_names
from firsttoken.files import read_json
from firsttoken.hardware import device_memory, visible_gpu
from firsttoken.inputs.checks import examine_model, local_folder, model_problem
from firsttoken.inputs.model_size import ModelSize, model_size
from firsttoken.inputs.own_prompts import cut_prompts, prompt_lengths, read_prompts
from firsttoken.inputs.prompts import encode_own
from firsttoken.measure.environments import Environments
from firsttoken.plan import DTYPE_BYTES, INSTRUMENT, Device, ModelManifest
from firsttoken.study.config import Study, finished_studies
from firsttoken.study.schema import ConfigError, load_schema

# Beside weights and KV cache: context, libraries and captured graphs on a GPU; libraries and compilers in the host.
DEVICE_OVERHEAD_BYTES = 3 << 29
HOST_OVERHEAD_BYTES = 2 << 30
REFERENCE_BYTES = 4  # of a value: the reference runs in float32, where the approaches run
SAMPLE_BYTES = 60  # of a token in the tables
# Set in a shell for another purpose and forgotten, they would change times or results unnoticed.
DISTORTING_VARIABLES = (
    "CUDA_LAUNCH_BLOCKING", "NVIDIA_TF32_OVERRIDE", "PYTORCH_NO_CUDA_MEMORY_CACHING", "PYTORCH_TUNABLEOP_ENABLED",
    "TORCHDYNAMO_DISABLE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_COMPILE_DISABLE", "TRITON_INTERPRET",
)  # fmt: skip


Verdict = Literal["ok", "warn", "no"]
VERDICTS: tuple[Verdict, ...] = ("ok", "warn", "no")  # from best to worst


@dataclass(frozen=True)
class Finding:
    """A line of a check; `no`: nothing can run before it is mended."""

    what: str
    verdict: Verdict
    detail: str


def as_table(found: Sequence[Finding]) -> str:
    """A line a finding, wrapped to the terminal."""
    columns = [max(len(finding.what) for finding in found), 4]
    indent = " " * (sum(columns) + 4)
    width = shutil.get_terminal_size((100, 24)).columns
    lines = [f"{line.what:<{columns[0]}}  {line.verdict:<{columns[1]}}  {line.detail}" for line in found]
    return "\n".join(textwrap.fill(line, max(width, 60), subsequent_indent=indent) for line in lines)


def check_study(
    config: Mapping[str, Any], config_folder: Path, results: Path, deployment: Sequence[str] = (), examine: bool = True
) -> Study:
    """The study of a config. `config_folder` has the schema and the claims; `deployment`: how Snakemake deploys
    environments; `examine`: look into a model that has not been fetched, which takes seconds. Raises ValueError in one
    line for anything that is wrong with it."""
    study = Study.check(
        config,
        load_schema(config_folder / "config.schema.yaml"),
        known_approaches=[name for name in approach_names() if name not in INSTRUMENT],
        has_cuda=visible_gpu() is not None,
    )
    study.check_environments(sorted({approach_class(name).environment for name in approach_names()} - {"base"}))
    if problem := model_problem(study.model):
        raise ConfigError(problem)
    manifest, limit = manifest_file(study, results), None
    if manifest.exists():
        limit = read_json(manifest, ModelManifest).max_context
    elif examine:
        limit = examine_model(study.model, config_folder / "corpus.txt")
    if study.config["workload"]["prompts"]:
        study = with_own_prompts(study, results)
    if limit is not None:
        study.check_context(limit)
    found = environments_of(study, deployment)
    study.check_availability({name: found.availability(name) for name in study.config["approaches"]})
    study.check_compared(finished_studies(results))
    read_publications(claim_files(study, config_folder), approach_names())  # a wrong one ends here
    return study


def shell_problem() -> str:
    """Which variables of this shell would change what is measured, and how they are removed; "" for none."""
    names = [name for name in DISTORTING_VARIABLES if os.environ.get(name)]
    values = ", ".join(f"{name}={os.environ[name]}" for name in names)
    return f"this shell has {values}, which changes what is measured: unset {' '.join(names)}" if names else ""


def with_own_prompts(study: Study, results: Path) -> Study:
    """The study with the lengths of its own prompts, where it gives none. They are checked as far as they can be before
    the model is fetched; raises ValueError in one line."""
    file = Path(study.config["workload"]["prompts"])
    prompts, lengths = read_prompts(file), study.config["workload"]["prompt_lengths"]
    folder = results / "models" / study.model_id
    if study.model["source"] == "local":
        folder = local_folder(study.model)
    if folder.is_dir():
        encoded = encode_own(folder, file)
        cut_prompts(file, encoded, lengths)
    elif lengths:
        return study  # make_prompts cuts them, and says which is too short
    elif any(prompt.text for prompt in prompts):
        raise ConfigError(
            f"config key workload.prompt_lengths: found [], and the texts in {file} cannot be counted before the model "
            "is fetched; give lengths, or token_ids, or name a local model"
        )
    else:
        encoded = [prompt.token_ids for prompt in prompts]
    return study if lengths else study.with_lengths(prompt_lengths(file, encoded))


def manifest_file(study: Study, results: Path) -> Path:
    """Where the model's manifest is once it has been fetched."""
    return results / "models" / f"{study.model_id}.json"


def claim_files(study: Study, config_folder: Path) -> list[str]:
    """The publications whose claims are judged."""
    return study.config["claims"] or sorted(map(str, (config_folder / "claims").glob("*.yaml")))


def environments_of(study: Study, deployment: Sequence[str] = ()) -> Environments:
    """The interpreters of the study's approaches and of the instrument, and what these have."""
    return Environments(
        names=(*INSTRUMENT, *study.config["approaches"]),
        device=study.device,
        dtype=study.model["dtype"],
        deployment=tuple(deployment),
        configured=study.pythons,
    )


def findings(study: Study, results: Path) -> list[Finding]:
    """What a checked study will run, and whether it fits this machine. The needs are estimates, and say so."""
    model, workload = study.model, study.config["workload"]
    origin = {"synthetic": "random weights", "local": model.get("path"), "huggingface": model.get("repo")}
    size = model_size(model, manifest_file(study, results))
    parts = [f"{size.parameters / 1e6:,.0f} M parameters" if size.parameters else "size unknown", model["dtype"]]
    parts += [f"context {size.context}" if size.context else "context unknown", str(origin[model["source"]])]
    work = (
        f"prompts of {', '.join(map(str, workload['prompt_lengths']))} tokens, {workload['new_tokens']} new ones, "
        f"{workload['requests']} requests of each length in each of {workload['repeats']} processes"
    )
    lines = [Finding("model", "ok", ", ".join(parts)), Finding("work", "ok", work)]
    if study.device == "cuda" and (promised := study.config["hardware"]["gpu"]):
        here = gpu.name if (gpu := visible_gpu()) else "no GPU"
        if here != promised:
            lines.append(Finding("GPU", "warn", f"{here} here; the jobs need a machine with {promised} (hardware.gpu)"))
    if problem := shell_problem():
        lines.append(Finding("shell", "no", problem))
    environments, memory_fits = environments_of(study), _memory(study.device)
    cache_values = size.kv_values_per_token * study.plan()["max_context"]
    needed = DTYPE_BYTES[model["dtype"]] * (size.parameters + cache_values)  # each approach has one copy of the weights
    runs = {name: environments.availability(name) for name in study.config["approaches"]}
    for name, found in runs.items():
        reason = f"{found.status}: {found.reason}" if found.reason else f"can run ({study.device})"
        line = Finding(name, "ok" if found.status in ("measured", "approximate") else "warn", reason)
        if found.status != "unavailable" and size.parameters and memory_fits:
            fits = memory_fits(name, needed)
            line = Finding(name, max(line.verdict, fits.verdict, key=VERDICTS.index), f"{reason}; {fits.detail}")
        lines.append(line)
    if all(found.status == "unavailable" for found in runs.values()):
        lines.append(Finding("approaches", "no", "none can run here"))
    if size.parameters and memory_fits:
        lines.append(memory_fits("reference", REFERENCE_BYTES * (size.parameters + cache_values)))
    elif not memory_fits:
        lines.append(Finding("device memory", "warn", "not known: no GPU here, or its driver does not tell"))
    else:
        lines.append(Finding("memory", "warn", "not known before the model is fetched"))
    names = [name for name, found in runs.items() if found.status != "unavailable"]
    return [*lines, *(_disk(study, size, names, results) if size.parameters else [])]


def _memory(device: Device) -> Callable[[str, int], Finding] | None:
    """Says whether weights and KV cache of so many bytes fit; None where the driver does not tell, or the GPU is not
    here."""
    if device == "cpu":
        host, beside = psutil.virtual_memory(), HOST_OVERHEAD_BYTES
        return lambda what, needed: _fits(what, "host memory", needed + beside, host.available, host.total)
    if (gpu := visible_gpu()) is None:
        return None
    with device_memory(gpu.uuid, "free") as free_bytes:
        free = free_bytes()
    if free is None:
        return None
    total, beside = gpu.memory_bytes, DEVICE_OVERHEAD_BYTES
    return lambda what, needed: _fits(what, "device memory", needed + beside, free, total)


def _disk(study: Study, size: ModelSize, names: Sequence[str], results: Path) -> list[Finding]:
    """Room for what the study fetches and writes."""
    weights = size.parameters * DTYPE_BYTES[study.model["dtype"]]
    engines = sum(approach_class(name).needs_engine for name in names)
    fetched = 0 if manifest_file(study, results).exists() or _is_linked(study, results) else weights
    workload, lengths = study.config["workload"], len(study.config["workload"]["prompt_lengths"])
    tokens = workload["requests"] * workload["repeats"] * lengths * workload["new_tokens"]
    logits = study.config["equivalence"]["prompts_per_length"] * lengths * workload["new_tokens"]
    made = (len(names) + 1) * (logits * size.vocabulary * 4 + tokens * SAMPLE_BYTES)
    disk = shutil.disk_usage(next(path for path in (results, *results.absolute().parents) if path.is_dir()))
    temporary = shutil.disk_usage(tempfile.gettempdir())
    return [
        _fits("results/", "disk", fetched + engines * weights + made, disk.free, disk.total),
        _fits("TMPDIR", "disk", 1 << 29, temporary.free, temporary.total),  # torch's precompiled headers
    ]


def _fits(what: str, kind: str, needed: int, free: int, total: int) -> Finding:
    """`no` where a thing would not fit an idle machine."""
    verdict: Verdict = "ok" if needed <= free else "warn" if needed <= total else "no"
    advice = {"ok": "", "warn": ": make room", "no": ": not enough; take a smaller model or dtype, or another machine"}
    of = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return Finding(what, verdict, f"{kind}: about {needed / 2**30:.1f} GiB needed (an estimate), {of}{advice[verdict]}")


def _is_linked(study: Study, results: Path) -> bool:
    """Whether a local model's weights take no space: they are hard-linked within a file system."""
    if study.model["source"] != "local":
        return False
    place = next(path for path in (results, *results.absolute().parents) if path.is_dir())
    return place.stat().st_dev == local_folder(study.model).stat().st_dev
