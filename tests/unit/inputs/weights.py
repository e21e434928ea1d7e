"""A folder's safetensors file, changed as a damaged or foreign model would be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tensors = dict[str, Any]


def changed_copy(source: Path, target: Path, change: Callable[[Tensors], None]) -> Path:
    """A copy of a model with one weights file whose tensors, by name, `change` has edited."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, target / "model.safetensors", metadata={"format": "pt"})
    return target


def with_config(folder: Path, **fields: Any) -> Path:
    """The folder, with `fields` in its config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}), encoding="utf-8")
    return folder
