"""The weights of a study, from any source, in one folder that appears only when it is complete."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

from firsttoken.files import HALF_WRITTEN
from firsttoken.inputs.huggingface import cached_snapshot, check_snapshot, download_model
from firsttoken.inputs.manifest import describe_model
from firsttoken.inputs.model_files import model_files
from firsttoken.plan import ModelManifest

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def fetch_model(section: dict[str, Any], folder: Path, corpus: Path) -> ModelManifest:
    """Make, download or take the model of the config's `model` section and describe it.

    An interrupted download stays in `{folder}.partial`, and the next call goes on with it. What is not downloaded is
    made in a hidden folder, anew each time. The last step renames it to `folder`. Raises ValueError in one line.
    """
    if section["source"] == "huggingface" and cached_snapshot(section["repo"], section["revision"]) is None:
        return _fill_and_rename(section, folder.with_name(f"{folder.name}.partial"), folder, corpus)
    hidden = folder.with_name(f"{HALF_WRITTEN}{folder.name}")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        return _fill_and_rename(section, hidden, folder, corpus)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _fill_and_rename(section: dict[str, Any], partial: Path, folder: Path, corpus: Path) -> ModelManifest:
    partial.mkdir(parents=True, exist_ok=True)
    if section["source"] == "synthetic":
        from firsttoken.inputs.synthetic import make_model

        make_model(section, partial, corpus)
    elif section["source"] == "local":
        _take_model(Path(section["path"]).expanduser().resolve(), partial)
    elif cached := cached_snapshot(section["repo"], section["revision"]):
        check_snapshot(cached, model_files(cached))
        _take_model(cached, partial)
    else:
        download_model(section["repo"], section["revision"], partial)
    manifest = describe_model(section, partial)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return manifest


def _take_model(source: Path, folder: Path) -> None:
    """Put the model of a folder on this machine into `folder`. Raises ValueError for what is no model.

    Weights are hard-linked where the file system allows it, which costs no space and outlives the original, and copied
    where it does not or where others may write to them. Small files are copied. Symbolic links are not used: a study
    would lose its weights when the original moves. Whoever edits the original weights in place changes the study's too;
    the hashes in the manifest show it.
    """
    try:
        names = model_files(source)
    except ValueError as error:
        raise ValueError(f"model.path: {error}") from error
    for name in names:
        original = (source / name).resolve()
        if not (name.endswith(".safetensors") and _link(original, folder / name)):
            _copy(original, folder / name)


def _link(source: Path, target: Path) -> bool:
    """Whether a hard link could be made, to a file that none but its owner may write."""
    if source.stat().st_mode & OTHERS_WRITE:
        return False
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    """A copy that is as private as the original at any time, and that none but its owner may write."""
    target.touch(mode=0o600)
    shutil.copyfile(source, target)
    target.chmod(source.stat().st_mode & 0o777 & ~OTHERS_WRITE)
