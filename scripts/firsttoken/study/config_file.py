"""The file that the user means by CONFIG=."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FROM = "FIRSTTOKEN_FROM"  # make puts the user's directory there: its own is the project's, also with make -C


def users_folder() -> Path:
    """Where a relative path of the user begins."""
    return Path(os.environ.get(FROM, "."))


def find_config(asked: str, project: Path) -> Path:
    """The config file of this path, seen from the user's directory or the project's, or the study of this name in
    config/studies/. Raises ValueError that lists these names."""
    named = Path(os.path.expanduser(asked))  # noqa: PTH111  # an unknown ~user stays as it is
    studies = project / "config" / "studies"
    for folder in (users_folder(), project):
        if (folder / named).is_file():
            return (folder / named).absolute()
    for path in (studies / asked, studies / f"{asked}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in studies.glob("*.yaml")))
    raise ValueError(f"CONFIG={asked}: is no file; give the path of one, or a study of config/studies/: {known}")


def require_name(config: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError where the user's config has no `study`: its results would lie among the default study's."""
    if "study" not in config:
        raise ValueError(f"{os.path.relpath(path)}: found no key study; name the study, e.g. study: {path.stem}")
