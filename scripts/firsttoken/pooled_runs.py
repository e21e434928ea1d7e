"""All runs of a study in two files, which are all that analysis reads of the measurements, and what ships.

`samples.parquet` has the samples of every run below each other. `records.parquet` has a row a run: its record and its
tokens as JSON, and the SHA-256 of the three raw files that the row was made from. Both carry SCHEMA_VERSION.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from firsttoken import files
from firsttoken.plan import INSTRUMENT, Record
from firsttoken.results import RunRecord, TokensRecord
from firsttoken.sample_schema import SAMPLES_SCHEMA

SCHEMA_VERSION = 2  # of a study's files; 1: shipped studies with raw files and pages, before the two pooled files
# The raw files of a run, `raw/{approach}/{repeat}.{suffix}`, by the column that has their SHA-256.
_SUFFIXES = {"record_sha256": "json", "tokens_sha256": "tokens.json", "samples_sha256": "parquet"}
_TEXTS = ("record_json", "tokens_json", *_SUFFIXES)  # RunRecord, TokensRecord
_TYPES = {"approach": pa.string(), "repeat": pa.int32()} | dict.fromkeys(_TEXTS, pa.string())
RECORDS_SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _TYPES.items()])
RAN = ("measured", "emulated", "approximate")
# What repeats of one approach must share; kernels and attention are code that is chosen while it loads.
SAME_CODE = (
    "code_sha256", "fingerprint", "versions", "status", "attention", "tf32", "kernels", "threads", "ahead", "spin_us",
)  # fmt: skip
_VERSION_KEY = b"firsttoken.schema_version"
Path_ = Path | str
T = TypeVar("T", bound=Record)
R = TypeVar("R")


def pool_runs(
    samples: Sequence[Path_], records: Sequence[Path_], tokens: Sequence[Path_], out_samples: Path_, out_records: Path_
) -> None:
    """Write samples.parquet and records.parquet from the raw files of all runs, each list in the same order of runs.

    Raises ValueError where repeats differ in machine, model, code or versions: they are not repeats then.
    """
    runs = [files.read_json(path, RunRecord) for path in records]
    check_poolable(runs)
    rows = []
    for record, samples_path, record_path, tokens_path in zip(runs, samples, records, tokens, strict=True):
        files.read_json(tokens_path, TokensRecord)
        rows.append(
            {
                "approach": record.approach,
                "repeat": record.repeat,
                "record_json": Path(record_path).read_text(encoding="utf-8"),
                "tokens_json": Path(tokens_path).read_text(encoding="utf-8"),
                "record_sha256": files.sha256_file(record_path),
                "tokens_sha256": files.sha256_file(tokens_path),
                "samples_sha256": files.sha256_file(samples_path),
            }
        )
    write_pooled(pa.concat_tables([_read_samples(path) for path in samples]), out_samples)
    write_pooled(pa.Table.from_pylist(rows, schema=RECORDS_SCHEMA), out_records)


def write_pooled(table: pa.Table, target: Path_) -> None:
    """Write one of the two files, with the version."""
    versioned = table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION)})
    with files.atomic_path(target) as temporary:
        pq.write_table(versioned, temporary, compression="zstd")


def read_samples(path: Path_, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of samples.parquet."""
    frame: pd.DataFrame = _read_pooled(path, SAMPLES_SCHEMA, columns).to_pandas()
    return frame


def read_records(path: Path_) -> list[RunRecord]:
    """The run records in records.parquet, by approach and repeat."""
    return _read_structs(path, "record_json", RunRecord)


def by_approach(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The records of each approach; the instrument is none."""
    grouped: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.approach not in INSTRUMENT:
            grouped.setdefault(record.approach, []).append(record)
    return grouped


def read_tokens(path: Path_) -> list[TokensRecord]:
    """The tokens of every run in records.parquet, by approach and repeat."""
    return _read_structs(path, "tokens_json", TokensRecord)


def raw_digests(path: Path_) -> dict[str, str]:
    """The SHA-256 of every raw file behind records.parquet, by its path below the study's folder."""
    return {
        f"raw/{row['approach']}/{row['repeat']}.{suffix}": row[column]
        for row in _read_pooled(path, RECORDS_SCHEMA, ["approach", "repeat", *_SUFFIXES]).to_pylist()
        for column, suffix in _SUFFIXES.items()
    }


def _read_structs(path: Path_, column: str, kind: type[T]) -> list[T]:
    rows = _read_pooled(path, RECORDS_SCHEMA, ["approach", "repeat", column]).to_pylist()
    rows.sort(key=lambda row: (row["approach"], row["repeat"]))
    try:
        return [msgspec.json.decode(row[column], type=kind) for row in rows]
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: column {column}: {error}; pool the raw files again") from error


def _read_pooled(path: Path_, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Some columns of a pooled file. Raises ValueError, one line, where it is damaged, of another version, or has other
    columns."""
    remedy = "pool the raw files again, or take the study's folder from where it is whole"
    found = _undamaged(path, remedy, pq.read_schema)
    version = (found.metadata or {}).get(_VERSION_KEY, b"1").decode()
    if version != str(SCHEMA_VERSION):
        raise ValueError(
            f"{path}: found schema version {version}, this is version {SCHEMA_VERSION}; measure the study again, or "
            "read it with the commit that is in its environment.json"
        )
    if not found.equals(schema, check_metadata=False):
        raise ValueError(f"{path}: found columns {found.names}, expected {schema.names}; pool the raw files again")
    return _undamaged(path, remedy, lambda place: pq.read_table(place, columns=list(columns)))


def _read_samples(path: Path_) -> pa.Table:
    table = _undamaged(path, "measure this run again", pq.read_table)
    if not table.schema.equals(SAMPLES_SCHEMA, check_metadata=False):
        raise ValueError(
            f"{path}: found columns {table.schema.names}, expected {SAMPLES_SCHEMA.names}; measure this run again"
        )
    return table.replace_schema_metadata(None)


def _undamaged(path: Path_, remedy: str, read: Callable[[Path_], R]) -> R:
    """What `read` finds. Raises ValueError where the file itself is damaged; an error of the machine passes through."""
    try:
        return read(path)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0]}); {remedy}") from error


def check_poolable(records: Sequence[RunRecord]) -> None:
    """Raise ValueError, one line, if these processes were not repeats of the same experiment."""
    ran = [record for record in records if record.status in RAN]
    problems = [_differing(ran, "the study", what) for what in ("machine", "model_hash", "device", "dtype")]
    for approach in sorted({record.approach for record in ran}):
        repeats = [record for record in ran if record.approach == approach]
        problems += [_differing(repeats, approach, what) for what in SAME_CODE]
    found = [problem for problem in problems if problem]
    if found:
        raise ValueError(f"repeats cannot be pooled: {'; '.join(found)}; run the differing ones again")


def _differing(records: Sequence[RunRecord], whose: str, what: str) -> str:
    """ "" if all agree, else who differs from whom."""
    if not records:
        return ""
    first = records[0]
    for other in records[1:]:
        if getattr(other, what) != getattr(first, what):
            return (
                f"{whose}: {what} of {other.approach}/{other.repeat} ({_short(getattr(other, what))}) is not that of "
                f"{first.approach}/{first.repeat} ({_short(getattr(first, what))})"
            )
    return ""


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
