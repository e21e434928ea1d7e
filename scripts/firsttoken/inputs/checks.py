"""What can be said about a config's model before any job runs: cheap, without torch, each problem in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firsttoken.inputs.model_files import CONTEXT_FIELDS, model_files
from firsttoken.inputs.weight_headers import check_stored, read_config, read_headers


def model_problem(section: dict[str, Any]) -> str | None:
    """Why the config's `model` section cannot work, or None. Asks neither the network nor torch."""
    try:
        if section["source"] == "synthetic":
            from firsttoken.inputs.synthetic import complete_shape

            complete_shape(section["architecture"], section["shape"])
        elif section["source"] == "huggingface":
            _check_pin(section["repo"], section["revision"])
        else:
            if not section["path"]:
                raise ValueError("model.path: missing; name the model's folder")
            _check_local(local_folder(section))
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"model.path: {error.filename}: {error.strerror}; make it readable"
    return None


def examine_model(section: dict[str, Any], corpus: Path) -> int | None:
    """The context in positions of a model that has not been fetched; None for one on a hub that does not answer.

    Asks transformers and the hub, which takes seconds. Raises ValueError in one line for a model that a study would
    refuse later: of one on the hub its config and the headers of its weights are looked at, of one here all files.
    """
    if section["source"] == "synthetic":
        from firsttoken.inputs.synthetic import complete_shape

        return int(complete_shape(section["architecture"], section["shape"])["max_position_embeddings"])
    if section["source"] == "huggingface":
        from firsttoken.inputs.huggingface import cached_snapshot, examine_remote

        folder = cached_snapshot(section["repo"], section["revision"])
        if folder is None:
            return examine_remote(section["repo"], section["revision"])
        return _examine_folder(folder, corpus)
    try:
        return _examine_folder(local_folder(section), corpus)
    except ValueError as error:
        raise ValueError(f"model.path: {error}") from error


def _examine_folder(folder: Path, corpus: Path) -> int:
    from firsttoken.inputs.manifest import checked_model, served_context
    from firsttoken.inputs.prompts import encode_corpus

    context = served_context(checked_model(folder, [folder / name for name in model_files(folder)]))
    encode_corpus(folder, corpus)
    return context


def local_inputs(section: dict[str, Any]) -> list[str]:
    """The files of a local model, for a rule's inputs, so that an edited original is taken again; else nothing."""
    if section["source"] != "local":
        return []
    folder = local_folder(section)
    return [str(folder / name) for name in model_files(folder)]


def local_folder(section: dict[str, Any]) -> Path:
    """The folder of a local model; `~nobody` stays as it is, and is no folder."""
    return Path(os.path.expanduser(section["path"]))  # noqa: PTH111  # Path.expanduser raises RuntimeError there


def _check_local(folder: Path) -> None:
    """Raise ValueError for a folder that is no model, or whose weights are quantised or not whole."""
    try:
        names = model_files(folder)
        config = read_config(folder / "config.json")
        stated_context(config, str(folder / "config.json"))
        tensors = read_headers(folder / name for name in names if name.endswith(".safetensors"))
        check_stored(str(folder), config, {name: tensor.dtype for name, tensor in tensors.items()})
    except ValueError as error:
        raise ValueError(f"model.path: {error}") from error


def stated_context(config: Mapping[str, Any], place: str) -> int | None:
    """The context in positions that a config.json tells, or None. Raises ValueError where it is no number."""
    text_config = config.get("text_config") or config
    if not isinstance(text_config, dict):
        raise ValueError(f"{place}: text_config is {text_config!r}, not a mapping; fetch the model again")
    for name in CONTEXT_FIELDS:
        if value := text_config.get(name):
            if type(value) is not int or value < 1:
                raise ValueError(f"{place}: {name} is {value!r}; give a whole number of positions")
            return value
    return None


def _check_pin(repo: str, revision: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", repo, re.ASCII):
        raise ValueError(f"model.repo: found {repo!r}; name the repository, e.g. meta-llama/Llama-2-7b-hf")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"model.revision: found {revision!r}; give the full commit hash (40 hexadecimal digits); branches move"
        )
