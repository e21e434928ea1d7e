"""The weights of a study, from any source, in one folder that appears only when it is complete."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from firsttoken.inputs.manifest import describe_model
from firsttoken.plan import ModelManifest


def fetch_model(section: dict[str, Any], folder: Path, corpus: Path) -> ModelManifest:
    """Make, download or take the model of the config's `model` section and describe it.

    Works in `{folder}.partial`, which an interrupted download leaves behind and the next call goes on with; the last
    step renames it to `folder`. Raises ValueError in one line.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    if section["source"] != "huggingface":
        shutil.rmtree(partial, ignore_errors=True)  # only a download is worth resuming
    partial.mkdir(parents=True, exist_ok=True)
    if section["source"] == "synthetic":
        from firsttoken.inputs.synthetic import make_model

        make_model(section, partial, corpus)
    elif section["source"] == "huggingface":
        from firsttoken.inputs.huggingface import download_model

        download_model(section["repo"], section["revision"], partial)
    else:
        from firsttoken.inputs.local import take_model

        take_model(section["path"], partial)
    manifest = describe_model(section, partial)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return manifest
