"""The study of a model that is named on the command line: `make run MODEL=...` writes its file and finds it again."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from firsttoken.files import write_text
from firsttoken.hardware import visible_gpu
from firsttoken.inputs.checks import model_problem, stated_context
from firsttoken.inputs.weight_headers import read_config
from firsttoken.plan import DTYPE_BYTES
from firsttoken.preflight import check_study
from firsttoken.yaml_files import read_yaml

# What is worth comparing where there is a GPU, and what a CPU does not only emulate.
APPROACHES = {
    "cuda": "baseline,cuda_graph,jit_cuda,compiled_graph,vllm,llama_cpp",
    "cpu": "baseline,jit_only,llama_cpp",
}
LENGTHS = (32, 256)
WORK = {
    "cuda": {"new_tokens": 16, "requests": 20, "repeats": 5},
    "cpu": {"new_tokens": 8, "requests": 5, "repeats": 5},
}


def study_file(
    model: str, revision: str, dtype: str, lengths: str, approaches: str, base: Path, config_folder: Path
) -> tuple[Path, str]:
    """The file of this model's study, below `config_folder`, and what was done: written, found, or found and given
    other approaches.

    `base`: the folder that a relative `model` is in. Empty texts: not given. `lengths` and `approaches` have commas. A
    dtype and lengths that are given are part of the study's name. A file that is there is used as it is, edits
    included. Raises ValueError in one line; then no file is written.
    """
    section = _source(model, revision, base)
    parts = [section["name"], dtype, *_split(lengths)]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(filter(None, parts)))
    if len(name) > 64:  # as long as the name of a study may be, and another one for other lengths
        name = f"{name[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    path = config_folder / "own" / f"{name}.yaml"
    if path.exists():
        study = read_yaml(path)
        model_there = study.get("model")
        if not isinstance(model_there, dict) or section.items() - model_there.items():
            raise ValueError(f"{path}: holds another model of this name; delete it, or run it with CONFIG={path}")
        if not approaches or study.get("approaches") == _split(approaches):
            return path, "uses"
        study["approaches"], done = _split(approaches), "rewrites, with these approaches,"
    else:
        study = {"study": name, "device": "auto", "on_unavailable": "record"}
        study |= _new_study(section, dtype, lengths, approaches)
        done = "writes"
    check_study(read_yaml(config_folder / "config.yaml") | study, config_folder, config_folder.parent / "results")
    head = "# Of `make run MODEL=...`, which uses it again. Edits are kept. config/README.md explains every key.\n"
    write_text(path, head + yaml.safe_dump(study, sort_keys=False, default_flow_style=None, width=120))
    return path, done


def _source(model: str, revision: str, base: Path) -> dict[str, Any]:
    """The keys of the config's model section that say which weights."""
    folder = Path(os.path.abspath(base / os.path.expanduser(model)))  # noqa: PTH100, PTH111  # links stay
    if folder.is_dir() and not revision:
        return {"name": _name(folder.name), "source": "local", "path": str(folder)}
    if folder.is_dir():
        raise ValueError(f"MODEL={model}: is a folder, which has no REVISION; leave REVISION={revision} out")
    if model.startswith(("/", ".", "~")):
        raise ValueError(f"MODEL={model}: {folder} is no folder; give the path of a model, or a hub id with REVISION")
    if not revision:
        raise ValueError(_no_revision(model, folder))
    return {
        "name": f"{_name(model)}-{revision[:7]}",
        "source": "huggingface",
        "repo": model,
        "revision": revision,
    }


def _name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", model.rpartition("/")[2]).lstrip("._-")[:40] or "model"


def _no_revision(model: str, folder: Path) -> str:
    """What to add to a model of the hub: its commit."""
    from firsttoken.inputs.huggingface import newest_commit

    try:
        return f"MODEL={model}: name the hub's commit, too; the newest is REVISION={newest_commit(model)}"
    except ValueError as error:
        return (
            f"MODEL={model}: {folder} is no folder, and a hub id needs REVISION, the commit, which "
            f"`hf models info {model}` shows as sha ({str(error)[:90]})"
        )


def _new_study(section: Mapping[str, Any], dtype: str, lengths: str, approaches: str) -> dict[str, Any]:
    """The keys that depend on the model's config.json and on the device."""
    if problem := model_problem(dict(section)):
        raise ValueError(problem)
    if section["source"] == "local":
        found = read_config(Path(section["path"], "config.json"))
    else:
        from firsttoken.inputs.huggingface import hub_config

        found = hub_config(section["repo"], section["revision"])
    gpu = visible_gpu()
    device = "cuda" if gpu else "cpu"
    context = stated_context(found, f"MODEL={section.get('path') or section.get('repo')}: config.json") or 2048
    room = context - WORK[device]["new_tokens"]
    fitting = [length for length in LENGTHS if length <= room] or [max(1, room)]
    if any(not part.isdecimal() for part in _split(lengths)):
        raise ValueError(f"LENGTHS={lengths}: give prompt lengths in tokens, e.g. LENGTHS=32,256")
    return {
        "threads": max(1, min(8, len(os.sched_getaffinity(0)) // 2)),
        "model": {**section, "dtype": dtype or _dtype(found, gpu.compute_capability if gpu else "cpu")},
        "approaches": _split(approaches or APPROACHES[device]),
        "workload": {"prompt_lengths": [int(part) for part in _split(lengths)] or fitting, **WORK[device]},
        "experiments": [],
    }


def _dtype(config: Mapping[str, Any], capability: str) -> str:
    """The dtype that the model was saved in, where the device computes it natively; float32 where it is not said."""
    text = config.get("text_config") or {}
    saved = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    if saved not in DTYPE_BYTES or (saved == "float16" and capability == "cpu"):
        return "float32"
    old = capability not in ("cpu", "") and int(capability.split(".")[0]) < 8
    return "float16" if saved == "bfloat16" and old else str(saved)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
