"""A job's trace: what it read, what it wrote, by which code and params, each file by its SHA-256.

Every job writes its trace beside its log when it ends. `provenance.json` is made of these files, so it holds what the
jobs themselves read and wrote, and does not depend on `.snakemake/`. Needs only the standard library and msgspec.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from firsttoken.files import read_json, sha256_file, write_json
from firsttoken.plan import FileEntry, Record


class Trace(Record, frozen=True, kw_only=True):
    """One finished job. Paths are relative to the working directory; a folder's digest is over its files' digests."""

    rule: str
    wildcards: dict[str, str]
    params: dict[str, Any]
    code: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    started_at: float  # seconds since the epoch
    seconds: float


def write_trace(snakemake: Any, target: Path, started_at: float) -> None:
    """Write the trace of the job that `snakemake` describes, once its outputs are complete."""
    sources = [str(path) for path in snakemake.input.get("sources", [])]
    script = Path(sys.modules["__main__"].__file__ or "").resolve()  # Snakemake sets it to the rule's own script
    project = script.parent.parent
    # The rules give a job its inputs, params and environment.
    workflow = [script, project / "Snakefile", *sorted(project.glob("rules/*.smk"))]
    code = [*sources, *(_relative(path) for path in workflow if path.is_file())]
    write_json(
        target,
        Trace(
            rule=snakemake.rule,
            wildcards={key: str(value) for key, value in snakemake.wildcards.items()},
            params=msgspec.to_builtins(dict(snakemake.params.items()), enc_hook=str),
            code=digests(code),
            inputs=digests(path for path in snakemake.input if str(path) not in set(sources)),
            outputs=digests(snakemake.output),
            started_at=started_at,
            seconds=time.time() - started_at,
        ),
    )


def digests(paths: Iterable[Any]) -> dict[str, str]:
    """SHA-256 of each file or folder, by path."""
    return {str(path): digest(Path(str(path))) for path in paths}


def digest(path: Path, trust_manifest: bool = True) -> str:
    """SHA-256 of a file; of a folder: over the names and digests of its files.

    The folder of a model or an engine has a manifest beside it (`{folder}.json`), which lists its files with their
    digests. With `trust_manifest` these digests are used once the sizes agree, since hashing 13 GB before every run
    would take longer than the run.
    """
    if not path.is_dir():
        return sha256_file(path)
    entries = _manifest_entries(path) if trust_manifest else None
    if entries is None:
        entries = [
            (str(file.relative_to(path)), sha256_file(file)) for file in sorted(path.rglob("*")) if _counts(file)
        ]
    return folder_digest(entries)


def folder_digest(entries: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over `name`, `digest` pairs in the order of the names."""
    total = hashlib.sha256()
    for name, value in sorted(entries):
        total.update(f"{name}\0{value}\n".encode())
    return total.hexdigest()


def _counts(file: Path) -> bool:
    return file.is_file() and file.name != ".snakemake_timestamp"  # Snakemake's own mark in directory() outputs


class _Manifest(msgspec.Struct):
    files: list[FileEntry]


def _manifest_entries(folder: Path) -> list[tuple[str, str]] | None:
    manifest = folder.with_name(folder.name + ".json")
    if not manifest.is_file():
        return None
    files = read_json(manifest, _Manifest).files
    for entry in files:
        found = (folder / entry.path).stat().st_size
        if found != entry.bytes:
            raise ValueError(f"{folder / entry.path}: {found} bytes, but its manifest says {entry.bytes}; remake it")
    return [(entry.path, entry.sha256) for entry in files]


def _relative(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
