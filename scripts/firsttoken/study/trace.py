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
from firsttoken.study.sources import AROUND_JOBS, PACKAGE


class Trace(Record, frozen=True, kw_only=True):
    """One finished job. Paths are relative to the working directory; a folder's digest is over its files' digests."""

    rule: str
    wildcards: dict[str, str]
    params: dict[str, Any]
    code: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    output_bytes: dict[str, int] = {}  # noqa: RUF012 (msgspec copies it); {}: of earlier studies
    started_at: float  # seconds since the epoch
    seconds: float


def write_trace(snakemake: Any, target: Path, started_at: float) -> None:
    """Write the trace of the job that `snakemake` describes, once its outputs are complete.

    Its code is what the rule's param `code` names, the rules themselves, this process's script and what every job has
    around its work.
    """
    script = Path(sys.modules["__main__"].__file__ or "").resolve()  # Snakemake sets it to the rule's own script
    project = script.parent.parent
    around = [project / "scripts" / PACKAGE / name for name in AROUND_JOBS]
    others = [script, project / "Snakefile", *project.glob("rules/*.smk"), *around]
    params = dict(snakemake.params.items())
    code = {*params.pop("code", ()), *(str(_relative(path)) for path in others)}
    write_json(
        target,
        Trace(
            rule=snakemake.rule,
            wildcards={key: str(value) for key, value in snakemake.wildcards.items()},
            params=msgspec.to_builtins(params, enc_hook=str),
            code=digests(sorted(path for path in code if Path(path).is_file())),
            inputs=digests(snakemake.input),
            outputs=digests(snakemake.output),
            output_bytes={str(path): _bytes_and_mtime(Path(path))[0] for path in snakemake.output},
            started_at=started_at,
            seconds=time.time() - started_at,
        ),
    )


def read_traces(logs: Iterable[Path]) -> dict[Path, Trace]:
    """The traces in these folders, and those among these files that exist, by their place."""
    files = (
        path for log in logs for path in (log.rglob("*.trace.json") if log.is_dir() else [log] if log.exists() else [])
    )
    return {path: read_json(path, Trace) for path in files}


def traces_by_output(logs: Iterable[Path]) -> dict[str, tuple[Path, Trace]]:
    """Of each output the trace of the last job that wrote it: a rule that was renamed since left one of its own."""
    in_order = sorted(read_traces(logs).items(), key=lambda each: each[1].started_at)
    return {output: (place, trace) for place, trace in in_order for output in trace.outputs}


def changed_outputs(logs: Iterable[Path]) -> list[str]:
    """The outputs of finished jobs that are there and are not what their job wrote.

    Size and modification time are compared; where they differ, as in a copy of the study, the bytes are hashed.
    """
    changed = []
    for output, (place, trace) in traces_by_output(logs).items():
        path = Path(output)
        if not path.exists():
            continue  # Snakemake makes it again
        size, mtime_ns = _bytes_and_mtime(path)
        same = size == trace.output_bytes.get(output, size) and mtime_ns <= place.stat().st_mtime_ns
        if not same and digest(path, trust_manifest=False) != trace.outputs[output]:
            changed.append(output)
    return changed


def _bytes_and_mtime(path: Path) -> tuple[int, int]:
    """Of a file, or of the files in a folder: all bytes, and the last modification, ns."""
    stats = [file.stat() for file in (path.rglob("*") if path.is_dir() else [path]) if _counts(file)]
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


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
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
