"""Are a model's files still those that were fetched? Hashed once a study and machine, compared by stat before each
measurement.

Two files, since one is evidence and the other is not. `model_check.json` holds the hashes: the same bytes give the same
file, so that hashing again breaks no chain of provenance. `.cache/model_stat.json` beside it holds what stat says of
the hashed files here; it changes without a change of the weights, so that it is no output of the rule, and it does not
ship. A change time that alone differs makes the file be hashed again: a hard link to the same weights, which another
study's fetch makes, changes it. Needs only the standard library and msgspec.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from firsttoken.files import read_json, sha256_file, write_json
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
    problem = _first_change({entry.path: entry for entry in manifest.files}, {entry.path: entry for entry in entries})
    if problem:
        advice = f"remove {folder} and run again, which fetches it anew"
        if manifest.source == "local":
            advice = f"mend {manifest.origin}, which may be the same file by a hard link, then {advice}"
        raise ValueError(f"{folder}/{problem} since the model was fetched; {advice}")
    write_json(_stat_file(check), ModelStat(host=platform.node(), files=tuple(stats.values())))
    write_json(check, ModelCheck(files=entries))


def require_checked(folder: Path, check: Path) -> None:
    """Raise ValueError where a file of the model is not the one that was hashed, by size, mtime, inode and ctime.

    `check` is the study's model_check.json. Takes microseconds, so that every measurement can afford it, unless the
    change time alone differs: a hard link, which another study's fetch makes, changes it as well as a write whose mtime
    was set back, and only hashing that file again tells which it was.
    """
    advice = (
        f"`snakemake --forcerun check_model -- {check}`, with the study's --configfile, hashes again: "
        "the same bytes go on, others are refused"
    )
    stat_file = _stat_file(check)
    if not stat_file.exists():
        raise ValueError(f"{stat_file}: missing; {advice}")
    hashed = read_json(stat_file, ModelStat)
    before, now = {file.path: file for file in hashed.files}, _stats(folder)
    problem = _first_change(before, now)
    suspects = [] if problem else [name for name in now if now[name].ctime_ns != before[name].ctime_ns]
    if suspects:
        expected = {entry.path: entry for entry in read_json(check, ModelCheck).files if entry.path in suspects}
        found = {
            name: FileEntry(path=name, bytes=now[name].bytes, sha256=sha256_file(folder / name)) for name in suspects
        }
        problem = _first_change(expected, found)
    if problem:
        raise ValueError(f"{folder}/{problem} since the model was hashed on {hashed.host}; {advice}")
    if suspects:
        write_json(stat_file, ModelStat(host=platform.node(), files=tuple(now.values())))


def _stat_file(check: Path) -> Path:
    return check.parent / ".cache" / "model_stat.json"


def _stats(folder: Path) -> dict[str, FileStat]:
    stats = {path.name: path.stat() for path in visible_files(folder)}
    return {
        name: FileStat(
            path=name,
            bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            inode=stat.st_ino,
            ctime_ns=stat.st_ctime_ns,
        )
        for name, stat in stats.items()
    }


def _first_change(expected: Mapping[str, FileEntry | FileStat], found: Mapping[str, FileEntry | FileStat]) -> str:
    """The first file that differs, and how, the change time apart; empty where all files are as expected."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name}: gone"
        if name not in expected:
            return f"{name}: added"
        for field in expected[name].__struct_fields__:
            old, new = getattr(expected[name], field), getattr(found[name], field)
            if old != new and field != "ctime_ns":
                return f"{name}: {field} changed from {old} to {new}"
    return ""
