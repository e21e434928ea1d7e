"""A model from a folder on this machine.

Weights are hard-linked where the file system allows it, which costs no space and outlives the original, and copied
where it does not; small files are copied. Symbolic links are not used: a study would lose its weights when the
original moves. Whoever edits the original weights in place changes the study's too; the hashes in the manifest show
it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from firsttoken.inputs.model_files import model_files


def take_model(path: str, folder: Path) -> None:
    """Put the model in `path` into `folder`, which exists. Raises ValueError for what is no model."""
    source = Path(path).expanduser().resolve()
    for name in model_files(source):
        if name.endswith(".safetensors"):
            _link_or_copy((source / name).resolve(), folder / name)
        else:
            shutil.copyfile(source / name, folder / name)


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
