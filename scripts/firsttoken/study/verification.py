"""Are the files on disk still those that a study was made of? Each file that is not is named, one line a file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from firsttoken.files import sha256_file
from firsttoken.plan import Record
from firsttoken.pooled_runs import raw_digests
from firsttoken.study.git import commit_with, history_problem
from firsttoken.study.provenance import MANIFEST, SHIPPED_MANIFEST, Provenance, read_provenance
from firsttoken.study.shipping import CONTRIBUTOR, HASH_LIST, listed_hashes
from firsttoken.study.trace import Trace, digest, read_traces

# Too large to ship with a study: their absence is said, but is no damage.
NOT_SHIPPED = re.compile(r"^results/(models/|[^/]+/(engine(/|$)|reference\.safetensors$|raw/[^/]+/\d+\.logits$))")
# One of each kind of file that every study records since 0.1.0: rules, config files, locks.
RECORDED = ("Snakefile", "config/config.yaml", "requirements.lock")
# What lies beside a study's results and is none: logs, caches, the report. Gates are checked by their traces.
_BESIDE = re.compile(r"^(logs|gates|\.cache)/|^(provenance\.json|report\.html)$|\.snakemake_timestamp$")


class Verdict(Record, frozen=True, kw_only=True):
    """What `verify` found. `earlier`: code and inputs that are other ones now, while a commit has the bytes that were
    used. `pooled`: raw files that are not here, while records.parquet has their digest. `not_checked`: code and inputs
    that are not here, where git's history cannot be searched."""

    sha256: str  # of provenance.json
    checked: int
    pooled: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    earlier: tuple[str, ...]
    not_shipped: tuple[str, ...]
    not_checked: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.changed and not self.missing


def verify(provenance_file: Path, root: Path) -> Verdict:
    """Hash everything that the study was made of and compare. `root` is the project's folder.

    Raises ValueError, one line, where the study is of another version.
    """
    provenance = read_provenance(provenance_file)
    folder, home = provenance_file.parent, f"results/{provenance.study}/"
    place = _shipped_elsewhere(home, folder, root)
    gates = [*read_traces([folder / "gates"]).values()]
    recorded, what = _recorded((*provenance.jobs, *gates), leave_out=f"{home}provenance.json")
    records = folder / "records.parquet"
    pooled = {f"{home}{path}": value for path, value in raw_digests(records).items()} if records.exists() else {}
    lines = defaultdict(list, _of_the_provenance(provenance_file, root))
    lines["changed"] += [*_edited_traces(provenance, folder, home), *_doubtful_gates(gates, folder, home, place)]
    problem, carried = history_problem(root), 0
    for path, values in sorted(recorded.items()):
        kind = what[path]
        found = digest(place(path), trust_manifest=False) if place(path).exists() else None
        for value in sorted(values - {found}):
            if kind != "result" and (commit := commit_with(root, path, value)):
                lines["earlier"].append(f"{kind} {path}: as of commit {commit[:7]}, not as it is now")
            elif found is not None:
                lines["changed"].append(f"{kind} {path}: its bytes have changed")
            elif pooled.get(path) == value:
                carried += 1
            elif NOT_SHIPPED.match(path):
                lines["not_shipped"].append(f"{kind} {path}: missing")
            elif kind == "result":
                lines["missing"].append(f"{kind} {path}: missing")
            elif problem:
                lines["not_checked"].append(f"{kind} {path}: not here, and {problem}")
            else:
                lines["missing"].append(f"{kind} {path}: in no commit and not on disk")
    return Verdict(
        sha256=sha256_file(provenance_file),
        checked=len(recorded),
        pooled=carried,
        changed=tuple(lines["changed"]),
        missing=tuple(lines["missing"]),
        earlier=tuple(lines["earlier"]),
        not_shipped=tuple(lines["not_shipped"]),
        not_checked=tuple(lines["not_checked"]),
        notes=(
            *_notes(recorded, folder, home),
            *([f"earlier versions cannot be checked: {problem}"] if problem else []),
        ),
    )


def _recorded(jobs: Sequence[Trace], leave_out: str) -> tuple[dict[str, set[str]], dict[str, str]]:
    """The digests of every file that the jobs name, and what it is: input, script or result."""
    recorded: dict[str, set[str]] = {}  # jobs may have seen a script with other bytes than later ones did
    what: dict[str, str] = {}
    for trace in jobs:
        for kind, files in (("input", trace.inputs), ("script", trace.code)):
            for path, value in files.items():
                if path != leave_out:
                    what[path] = kind
                    recorded.setdefault(path, set()).add(value)
    for trace in jobs:  # afterwards: what one job wrote and another read is a result
        what |= dict.fromkeys(trace.outputs, "result")
        recorded |= {path: {value} for path, value in trace.outputs.items()}
    return recorded, what


def _of_the_provenance(provenance_file: Path, root: Path) -> dict[str, list[str]]:
    """Whether a shipped study's provenance is the one that the README of the shipped studies lists."""
    shipped = root / "results" / "reference"
    if provenance_file.resolve().parent.parent != shipped.resolve():
        return {}
    listed, found = listed_hashes(shipped / HASH_LIST), sha256_file(provenance_file)
    expected = listed.get(provenance_file.resolve().parent.name)
    readme = f"results/reference/{HASH_LIST}"
    if expected is None:
        return {"missing": [f"{provenance_file}: its SHA-256 is not in {readme}; ship the study again"]}
    line = f"{provenance_file}: its SHA-256 is {found}, but {readme} has {expected}; it was edited: restore it, or ship"
    return {"changed": [f"{line} the study again"] if found != expected else []}


def _edited_traces(provenance: Provenance, folder: Path, home: str) -> Iterator[str]:
    """The study's own jobs whose trace beside the log is another one than the provenance has; a shipped study has no
    logs, and the model may have been fetched again for another study."""
    traces = [*read_traces([folder / "logs"]).values()]
    for job in provenance.jobs if traces else ():
        if min(job.outputs).startswith(home) and job not in traces:
            where = f"trace of {job.rule} ({min(job.outputs)})"
            yield f"{where}: not as in provenance.json; one of them was edited, or the job ran again"


def _doubtful_gates(gates: Sequence[Trace], folder: Path, home: str, place: Callable[[str], Path]) -> Iterator[str]:
    """Gates that no job wrote, and gates that judged another table than the one that is here."""
    traced = {path: trace for trace in gates for path in trace.outputs}
    for passed in sorted(path.name for path in (folder / "gates").glob("*") if not path.suffix):
        gate = f"{home}gates/{passed}"
        if gate not in traced:
            yield f"gate {gate}: no job left a trace of it; delete it and run the gate again"
            continue
        for path, value in traced[gate].inputs.items():
            own = path.startswith(home) and path != f"{home}provenance.json"
            if own and place(path).exists() and digest(place(path)) != value:
                yield f"gate {gate}: it judged other bytes of {path}; run the gate again"


def _notes(recorded: Mapping[str, object], folder: Path, home: str) -> list[str]:
    """What this check does not cover."""
    notes = []
    if absent := [path for path in RECORDED if path not in recorded]:
        notes.append(f"not recorded by this study: {', '.join(absent)}")
    folders = tuple(f"{path}/" for path in recorded)
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = str(path.relative_to(folder))
        covered = f"{home}{name}" in recorded or f"{home}{name}".startswith(folders)
        if not covered and name not in (SHIPPED_MANIFEST, CONTRIBUTOR) and not _BESIDE.search(name):
            notes.append(f"not checked, since no job made it: {home}{name}")
    return notes


def _shipped_elsewhere(home: str, folder: Path, root: Path) -> Callable[[str], Path]:
    """A study may lie elsewhere than where it was made, e.g. under results/reference/: its own files move with it, and
    a copy of the model's manifest."""

    def place(path: str) -> Path:
        if path.startswith(home):
            return folder / path.removeprefix(home)
        if MANIFEST.match(path) and not (root / path).exists():
            return folder / SHIPPED_MANIFEST
        return root / path

    return place
