"""From the jobs' traces to `provenance.json`, and back: are the files on disk still those that the study was made
of?"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from firsttoken.files import read_json, write_json
from firsttoken.plan import Record
from firsttoken.pooled_runs import SCHEMA_VERSION, raw_digests
from firsttoken.study.git import commit_with
from firsttoken.study.trace import Trace, digest

# Too large to ship with a study: their absence is said, but is no damage.
NOT_SHIPPED = re.compile(r"^results/(models/|[^/]+/(engine(/|$)|reference\.safetensors$|raw/[^/]+/\d+\.logits$))")
MANIFEST = re.compile(r"^results/models/[^/]+\.json$")
# The data of a study, from which tables, figures and pages can be made again; the model's manifest is copied beside.
SHIPPED = ("*.json", "*.yaml", "*.csv", "*.parquet", "experiments/*.csv", "tables/equality_positions.csv")
SHIPPED_MANIFEST = "model.json"


class Provenance(Record, frozen=True, kw_only=True):
    """`results/{study}/provenance.json`: every job behind the study's outputs."""

    study: str
    schema_version: int = 1  # of the study's files; version 1 did not say
    jobs: tuple[Trace, ...]
    breaks: tuple[str, ...]  # a file that one job wrote and another read with other bytes


class Verdict(Record, frozen=True, kw_only=True):
    """What `verify` found, one line a file. `earlier`: code and inputs that are other ones now, while a commit has the
    bytes that were used. `pooled`: raw files that are not here, while records.parquet has their digest."""

    checked: int
    pooled: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    earlier: tuple[str, ...]
    not_shipped: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.changed and not self.missing


def collect(study: str, results: Iterable[str], logs: Iterable[Path]) -> Provenance:
    """The jobs behind `results`, found among the traces in the log folders and files: who wrote each, and what it read
    in turn."""
    traces = [read_json(path, Trace) for path in {trace for log in logs for trace in _traces(log)}]
    # The last job that wrote a file made it: a rule that was renamed since left a trace of its own.
    by_output = {path: trace for trace in sorted(traces, key=lambda each: each.started_at) for path in trace.outputs}
    return _behind(study, results, by_output)


def _behind(study: str, results: Iterable[str], by_output: Mapping[str, Trace]) -> Provenance:
    """The jobs that made `results`, and those that made what these read, and so on."""
    behind: dict[str, Trace] = {}
    queue = list(results)
    while queue:
        found = by_output.get(queue.pop())
        if found is not None and (key := min(found.outputs)) not in behind:
            behind[key] = found
            queue.extend(found.inputs)
    jobs = tuple(behind[key] for key in sorted(behind))
    return Provenance(study=study, schema_version=SCHEMA_VERSION, jobs=jobs, breaks=tuple(_breaks(jobs)))


def read_provenance(path: Path) -> Provenance:
    """Raises ValueError, one line, where the study is of another version."""
    found = read_json(path, Provenance)
    if found.schema_version != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: found schema version {found.schema_version}, this is version {SCHEMA_VERSION}; measure the study "
            "again, or read it with the commit that is in its environment.json"
        )
    return found


def write_provenance(study: str, results: Iterable[str], logs: Iterable[Path], target: Path) -> None:
    """Write `provenance.json`. Raises ValueError where an output was changed between the job that wrote it and one that
    read it."""
    provenance = collect(study, results, logs)
    write_json(target, provenance)
    if provenance.breaks:
        raise ValueError(provenance.breaks[0])


def ship(source: Path, target: Path, root: Path) -> None:
    """Copy a finished study's data to `target`, with the jobs that made them and the model's manifest.

    Raises ValueError for a study without provenance, or of another version.
    """
    if not (source / "provenance.json").exists():
        raise ValueError(f"{source}/provenance.json: no such file; ship a finished study")
    provenance = read_provenance(source / "provenance.json")
    by_output = {path: trace for trace in provenance.jobs for path in trace.outputs}
    manifest = next((path for path in by_output if MANIFEST.match(path)), None)
    shutil.rmtree(target, ignore_errors=True)
    data = sorted(path for pattern in SHIPPED for path in source.glob(pattern))
    for path in data:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    if manifest is not None and (root / manifest).exists():
        shutil.copyfile(root / manifest, target / SHIPPED_MANIFEST)
    results = [f"results/{provenance.study}/{path.relative_to(source)}" for path in data]
    write_json(target / "provenance.json", _behind(provenance.study, [*results, *filter(None, [manifest])], by_output))


def _traces(log: Path) -> Iterable[Path]:
    if log.is_dir():
        return log.rglob("*.trace.json")
    return [log] if log.name.endswith(".trace.json") and log.exists() else []


def _breaks(traces: Sequence[Trace]) -> Iterable[str]:
    written = {path: (value, trace.rule) for trace in traces for path, value in trace.outputs.items()}
    for trace in traces:
        for path, value in trace.inputs.items():
            if path in written and written[path][0] != value:
                yield (
                    f"{path}: {trace.rule} read other bytes than {written[path][1]} wrote; "
                    "it was changed by hand: delete it and run again"
                )


def verify(provenance_file: Path, root: Path) -> Verdict:
    """Hash everything that the study was made of and compare. `root` is the project's folder.

    Raises ValueError, one line, where the study is of another version.
    """
    provenance = read_provenance(provenance_file)
    recorded: dict[str, set[str]] = {}  # jobs may have seen a script with other bytes than later ones did
    what: dict[str, str] = {}
    for trace in provenance.jobs:
        for kind, files in (("input", trace.inputs), ("script", trace.code)):
            what |= dict.fromkeys(files, kind)
            for path, value in files.items():
                recorded.setdefault(path, set()).add(value)
    for trace in provenance.jobs:  # afterwards: what one job wrote and another read is a result
        what |= dict.fromkeys(trace.outputs, "result")
        recorded |= {path: {value} for path, value in trace.outputs.items()}
    moved = _shipped_elsewhere(provenance, provenance_file, root)
    records = provenance_file.parent / "records.parquet"
    digests = raw_digests(records) if records.exists() else {}
    pooled = {f"results/{provenance.study}/{path}": value for path, value in digests.items()}
    carried = 0
    lines: dict[str, list[str]] = {name: [] for name in ("changed", "missing", "earlier", "not_shipped")}
    for path, values in sorted(recorded.items()):
        place, kind = moved(path), what[path]
        found = digest(place, trust_manifest=False) if place.exists() else None
        for value in sorted(values - {found}):
            if kind != "result" and (commit := commit_with(root, path, value)):
                lines["earlier"].append(f"{kind} {path}: as of commit {commit[:7]}, not as it is now")
            elif found is not None:
                lines["changed"].append(f"{kind} {path}: its bytes have changed")
            elif pooled.get(path) == value:
                carried += 1
            else:
                lines["not_shipped" if NOT_SHIPPED.match(path) else "missing"].append(f"{kind} {path}: missing")
    return Verdict(checked=len(recorded), pooled=carried, **{name: tuple(found) for name, found in lines.items()})


def _shipped_elsewhere(provenance: Provenance, provenance_file: Path, root: Path) -> Callable[[str], Path]:
    """A study may lie elsewhere than where it was made, e.g. under results/reference/: its own files move with it, and
    a copy of the model's manifest."""
    home = f"results/{provenance.study}/"

    def place(path: str) -> Path:
        if path.startswith(home):
            return provenance_file.parent / path.removeprefix(home)
        if MANIFEST.match(path) and not (root / path).exists():
            return provenance_file.parent / SHIPPED_MANIFEST
        return root / path

    return place
