"""What can be said about a config's model before any job runs: cheap, without torch, each problem in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from firsttoken.inputs.model_files import CONTEXT_FIELDS, model_files


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
            model_files(Path(section["path"]).expanduser())
    except ValueError as error:
        return str(error)
    return None


def hub_access_problem(section: dict[str, Any]) -> str | None:
    """Why the hub would refuse the model (gated, no such commit); None when it would not or cannot be asked."""
    if section["source"] != "huggingface":
        return None
    from firsttoken.inputs.huggingface import access_problem

    return access_problem(section["repo"], section["revision"])


def model_limits(section: dict[str, Any]) -> int | None:
    """The model's context in positions where it is known before the model is fetched; None for one on the hub."""
    if section["source"] == "synthetic":
        from firsttoken.inputs.synthetic import complete_shape

        return int(complete_shape(section["architecture"], section["shape"])["max_position_embeddings"])
    if section["source"] == "local":
        config = json.loads((Path(section["path"]).expanduser() / "config.json").read_text(encoding="utf-8"))
        text_config = config.get("text_config", config)
        return next((int(text_config[name]) for name in CONTEXT_FIELDS if text_config.get(name)), None)
    return None


def local_inputs(section: dict[str, Any]) -> list[str]:
    """The files of a local model, for a rule's inputs, so that an edited original is taken again; else nothing."""
    if section["source"] != "local":
        return []
    folder = Path(section["path"]).expanduser()
    return [str(folder / name) for name in model_files(folder)]


def _check_pin(repo: str, revision: str) -> None:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
        raise ValueError(f"model.repo: found {repo!r}; name the repository, e.g. meta-llama/Llama-2-7b-hf")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"model.revision: found {revision!r}; give the full commit hash (40 hexadecimal digits); branches move"
        )
