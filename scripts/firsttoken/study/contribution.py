"""A measured study in one archive: packed where it was measured, checked and unpacked where it is kept.

An archive comes from a stranger. Its names and sizes are checked before anything is written, and it is unpacked with
the standard library's data filter (https://docs.python.org/3/library/tarfile.html#tarfile-extraction-filter).
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import time
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

import msgspec

from firsttoken.files import atomic_path, read_json
from firsttoken.pooled_runs import read_records
from firsttoken.results import Environment
from firsttoken.study.provenance import read_provenance
from firsttoken.study.shipping import CONTRIBUTOR, Contributor

MAX_FILES = 20
MAX_BYTES = 64 * 2**20  # of a whole archive, unpacked; a study of the published grid has a few MB
STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as in config.schema.yaml
_MEMBER = re.compile(
    rf"(?P<study>{STUDY_NAME.pattern})/(?:(?:experiments|tables)/)?[A-Za-z0-9][\w-]*\.(?:csv|json|parquet|yaml)",
    re.ASCII,
)
_DATA = ("config.yaml", "environment.json", "records.parquet", "samples.parquet")  # what jobs must have made
_REQUIRED = (CONTRIBUTOR, "model.json", "provenance.json", *_DATA)


def contributor(by: str, note: str = "") -> Contributor:
    """Who measured, from `Name <mail or https address>`. Raises ValueError, one line, for anything else."""
    name, _, contact = by.strip().removesuffix(">").rpartition(" <")
    try:
        return msgspec.convert({"name": name.strip(), "contact": contact, "note": note.strip()}, Contributor)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"found BY={by!r} and NOTE={note!r}; give a name without markup, a contact, and a note of one line: "
            'BY="Ada Lovelace <ada@example.org or https://example.org/ada>" NOTE="clocks locked, nothing else ran"'
        ) from error


def check(folder: Path) -> Contributor:
    """Who measured the study in `folder`. Raises ValueError, one line, where a file is missing or not of its kind, or
    where the study was made of files outside the project, which nobody else can check."""
    if absent := [name for name in _REQUIRED if not (folder / name).is_file()]:
        raise ValueError(f"{folder.name}: has no {', '.join(absent)}; pack a finished study with make contribute")
    read_json(folder / "environment.json", Environment)
    provenance = read_provenance(folder / "provenance.json")
    made = {path for job in provenance.jobs for path in job.outputs}
    if not_made := [name for name in _DATA if f"results/{provenance.study}/{name}" not in made]:
        raise ValueError(f"{folder.name}: {', '.join(not_made)}: no job in provenance.json made it")
    for path in (path for job in provenance.jobs for path in (*job.inputs, *job.outputs, *job.code)):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(
                f"{folder.name}: made of {path}, which is outside the project, so that nobody else can check it; use a "
                "config and a model that others can get"
            )
    return read_json(folder / CONTRIBUTOR, Contributor)


def personal_data(folder: Path, words: Sequence[str]) -> list[str]:
    """What in a study's files says who measured it, and where; a line each. `words`, such as the home folder and the
    host's name, are looked for in all text and in the records of the runs."""
    who = read_json(folder / CONTRIBUTOR, Contributor)
    machine = read_json(folder / "environment.json", Environment)
    gpu = f"{machine.gpu.name} {machine.gpu.uuid}, " if machine.gpu else ""
    texts = {path.name: path.read_text(encoding="utf-8") for path in _files(folder) if path.suffix != ".parquet"}
    texts["records.parquet"] = str(read_records(folder / "records.parquet"))
    return [
        f"{CONTRIBUTOR}: {who.name}, {who.contact}",
        f"environment.json: {gpu}{machine.cpu}, {machine.os}",
        *(f"{name}: {word}" for name, text in texts.items() for word in words if word in text),
    ]


def pack(folder: Path, archive: Path) -> None:
    """Write the files of `folder` as a gzipped tar; the same files give the same bytes. Raises ValueError, one line,
    for what `unpack` would refuse."""
    members = []
    for path in _files(folder):
        member = tarfile.TarInfo(path.relative_to(folder.parent).as_posix())  # of no user and no time
        member.size = path.stat().st_size
        members.append(member)
    _check_members(members, folder)
    with (
        atomic_path(archive) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream,
        tarfile.open(mode="w", fileobj=stream) as tar,
    ):
        for member in members:
            with (folder.parent / member.name).open("rb") as content:
                tar.addfile(member, content)


def unpack(archive: Path, folder: Path) -> Path:
    """Write the study in `archive` to a folder of its name in `folder`, and return it. Raises ValueError, one line, for
    anything that `pack` does not write."""
    try:
        with gzip.open(archive) as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"{archive}: more than {MAX_BYTES} bytes unpacked")
        with tarfile.open(mode="r:", fileobj=io.BytesIO(data)) as tar:
            members = list(islice(tar, MAX_FILES + 1))
            _check_members(members, archive)
            for member in members:
                member.mtime = time.time()  # Snakemake takes files of 1970 for outdated ones
            tar.extractall(folder, members, filter="data")
    except (OSError, EOFError, RecursionError, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{archive}: cannot be read as an archive of make contribute ({error})") from error
    return folder / members[0].name.partition("/")[0]


def _check_members(members: Sequence[tarfile.TarInfo], where: Path) -> None:
    """Raise ValueError, one line, unless the members are the data files of one study."""
    if not 0 < len(members) <= MAX_FILES:
        raise ValueError(f"{where}: {len(members)} files or more; a study has 1 to {MAX_FILES}")
    names: set[str] = set()
    studies: set[str] = set()
    for member in members:
        found = _MEMBER.fullmatch(member.name)
        if found is None or member.type != tarfile.REGTYPE or member.name in names:
            raise ValueError(f"{where}: holds {member.name[:200]!r}, which is no data file of a study")
        names.add(member.name)
        studies.add(found["study"])
    if len(studies) > 1:
        raise ValueError(f"{where}: holds files of {len(studies)} studies, must be one")
    if any(member.size < 0 for member in members) or sum(member.size for member in members) > MAX_BYTES:
        raise ValueError(f"{where}: more than {MAX_BYTES} bytes, or a size that is none")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
