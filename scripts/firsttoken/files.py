"""Reading and writing the files of a study: typed, validated, never half written."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

HALF_WRITTEN = ".firsttoken-"  # how names begin of what replaces its target when it is complete
ROOM_BYTES = 1 << 20  # less than any study writes


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """A temporary path beside `target` that replaces it if the block succeeds and vanishes if it does not."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=HALF_WRITTEN, suffix=f"-{target.name}")
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(0o644)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # else a power cut may leave the name without the bytes
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, record: msgspec.Struct) -> None:
    """Write a struct as indented JSON, validated against its own type (structs do not check at construction)."""
    data = msgspec.to_builtins(record)
    msgspec.convert(data, type(record))
    write_text(target, msgspec.json.format(msgspec.json.encode(data), indent=1).decode() + "\n")


def read_json(source: Path | str, kind: type[T]) -> T:
    """Read a struct from JSON. Raises ValueError that names the file and what is wrong in it."""
    try:
        return msgspec.json.decode(Path(source).read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(f"{source}: {error}") from error


def storage_problem(folders: Iterable[Path]) -> str:
    """Why nothing can be written to one of the folders, as one line; "" where all have a little room. A folder that is
    not there is judged by the one that will hold it."""
    for folder in folders:
        place = next(path for path in (folder, *folder.parents) if path.is_dir())
        try:
            with tempfile.TemporaryFile(dir=place) as probe:
                probe.write(bytes(ROOM_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return f"{place}: {reason}; files must be written there: mend that, and the same command goes on"
    return ""


def sha256_file(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
