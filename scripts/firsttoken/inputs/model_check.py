"""Are a model's files still those that were fetched? Hashed once a study and machine, compared by stat before each
measurement.

Two files, since one is evidence and the other is not. `model_check.json` holds the hashes: the same bytes give the same
file, so that hashing again breaks no chain of provenance. `.cache/model_stat.json` beside it holds what stat says of
the hashed files here; it changes without a change of the weights, so that it is no output of the rule, and it does not
ship. The change time is left out: a hard link to the same weights, which another study's fetch makes, changes it. Needs
only the standard library and msgspec.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from firsttoken.files import read_json, write_json
from firsttoken.inputs.file_entries import file_entries, visible_files
from firsttoken.plan import FileEntry, FileStat, ModelCheck, ModelManifest, ModelStat


def check_model(
    folder: Path, manifest: ModelManifest, check: Path, progress: Callable[[str], None] | None = None
) -> None:
    """Hash the model's files and write `check`, the study's model_check.json, and what stat says of them.

    Raises ValueError that names the first file that is not as the manifest has it.
    """
    stats = _stats(folder)  # before hashing: a file that changes meanwhile differs from it afterwards
    entries = file_entries(folder, progress)
    expected = {entry.path: entry for entry in manifest.files}
    found = {entry.path: entry for entry in entries}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            advice = f"remove {folder} and run again, which fetches it anew"
            if manifest.source == "local":
                advice = f"mend {manifest.origin}, which may be the same file by a hard link, then {advice}"
            raise ValueError(f"{folder / name}: {_difference(expected.get(name), found.get(name))}; {advice}")
    write_json(_stat_file(check), ModelStat(host=platform.node(), files=tuple(stats.values())))
    write_json(check, ModelCheck(files=entries))


def require_checked(folder: Path, check: Path) -> None:
    """Raise ValueError where a file of the model is not the one that was hashed, by size, mtime and inode.

    `check` is the study's model_check.json. Takes microseconds, so that every measuring process can afford it.
    """
    advice = (
        f"`snakemake --forcerun check_model -- {check}`, with the study's --configfile, hashes again: "
        "the same bytes go on, others are refused"
    )
    stat_file = _stat_file(check)
    if not stat_file.exists():
        raise ValueError(f"{stat_file}: missing; {advice}")
    hashed = read_json(stat_file, ModelStat)
    problem = _first_change({file.path: file for file in hashed.files}, _stats(folder))
    if problem:
        raise ValueError(f"{folder}/{problem} since the model was hashed on {hashed.host}; {advice}")


def _stat_file(check: Path) -> Path:
    return check.parent / ".cache" / "model_stat.json"


def _stats(folder: Path) -> dict[str, FileStat]:
    stats = {path.name: path.stat() for path in visible_files(folder)}
    return {
        name: FileStat(path=name, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, inode=stat.st_ino)
        for name, stat in stats.items()
    }


def _first_change(hashed: Mapping[str, FileStat], found: Mapping[str, FileStat]) -> str:
    for name in sorted(hashed.keys() | found.keys()):
        if name not in found:
            return f"{name}: gone"
        if name not in hashed:
            return f"{name}: added"
        old, new = hashed[name], found[name]
        for what in ("bytes", "mtime_ns", "inode"):
            if getattr(old, what) != getattr(new, what):
                return f"{name}: {what} changed from {getattr(old, what)} to {getattr(new, what)}"
    return ""


def _difference(expected: FileEntry | None, found: FileEntry | None) -> str:
    if found is None:
        return "missing, but the manifest names it"
    if expected is None:
        return "not in the manifest"
    if found.bytes != expected.bytes:
        return f"{found.bytes:,} bytes, but {expected.bytes:,} were fetched"
    return f"its bytes are not those that were fetched (SHA-256 {found.sha256[:12]}, fetched {expected.sha256[:12]})"
