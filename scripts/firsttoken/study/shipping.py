"""What ships of a finished study: its data, the jobs behind them, and the SHA-256 of its provenance, kept apart."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from firsttoken.files import read_json, sha256_file, write_json, write_text
from firsttoken.plan import Record
from firsttoken.study.provenance import MANIFEST, SHIPPED_MANIFEST, jobs_behind, read_provenance

# The data of a study, from which tables, figures and pages can be made again; the model's manifest is copied beside.
SHIPPED = ("*.json", "*.yaml", "*.csv", "*.parquet", "experiments/*.csv", "tables/equality_positions.csv")
HASH_LIST = "README.md"  # beside the shipped studies
CONTRIBUTOR = "contributor.json"  # of a study that somebody else measured
MAINTAINERS = "the maintainers"
_HEAD = "| study | SHA-256 of `provenance.json` | measured by |\n|---|---|---|\n"
_ROW = re.compile(r"^\| `(?P<study>[^`]+)` \| `(?P<sha256>[0-9a-f]{64})` \| (?P<measured_by>[^|\n]+) \|$", re.MULTILINE)


class Contributor(Record, frozen=True, kw_only=True):
    """`contributor.json`: who measured a study. The name stands in a table of Markdown, so it has no markup."""

    name: Annotated[str, Meta(pattern=r"\A[^\W_](?:[\w .,'()&+-]*[\w.)])?\Z", max_length=80)]
    contact: Annotated[str, Meta(pattern=r"\A(?:[^\s<>|@]+@[^\s<>|@]+|https://[^\s<>|]+)\Z", max_length=200)]
    note: Annotated[str, Meta(pattern=r"\A[^\n\r]*\Z", max_length=1000)] = ""  # on the machine


def ship(source: Path, target: Path, root: Path) -> None:
    """Copy a finished study's data to `target`, with the jobs that made them and the model's manifest.

    Raises ValueError for a study without provenance, or of another version.
    """
    if not (source / "provenance.json").exists():
        raise ValueError(f"{source}/provenance.json: no such file; ship a finished study")
    provenance = read_provenance(source / "provenance.json")
    by_output = {path: trace for trace in provenance.jobs for path in trace.outputs}
    manifest = next((path for path in by_output if MANIFEST.match(path)), None)
    data = sorted(path for pattern in SHIPPED for path in source.glob(pattern))
    try:
        for path in data:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        if manifest is not None and (root / manifest).exists():
            shutil.copyfile(root / manifest, target / SHIPPED_MANIFEST)
        results = [f"results/{provenance.study}/{path.relative_to(source)}" for path in data]
        write_json(
            target / "provenance.json", jobs_behind(provenance.study, [*results, *filter(None, [manifest])], by_output)
        )
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)  # no half of a study
        raise


def listed_hashes(readme: Path) -> dict[str, str]:
    """Study -> SHA-256 of its `provenance.json`, as the README of the shipped studies lists them."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    return {row["study"]: row["sha256"] for row in _ROW.finditer(text)}


def list_study(folder: Path) -> None:
    """Write or replace a shipped study's row in the README beside its folder: the SHA-256 of its `provenance.json` and
    who measured it. A README without the table gets it at its end."""
    readme, study, by = folder.parent / HASH_LIST, folder.name, MAINTAINERS
    if (folder / CONTRIBUTOR).exists():
        by = read_json(folder / CONTRIBUTOR, Contributor).name
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    row = f"| `{study}` | `{sha256_file(folder / 'provenance.json')}` | {by} |"
    old = next((found.group() for found in _ROW.finditer(text) if found["study"] == study), None)
    if old is None and _HEAD not in text:
        text += f"\n{_HEAD}"
    write_text(readme, text.replace(old, row) if old else text.replace(_HEAD, f"{_HEAD}{row}\n"))
