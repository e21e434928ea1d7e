"""From the jobs' traces to `provenance.json`, and back: are the files on disk still those that the study was made
of?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from firsttoken.files import read_json, write_json
from firsttoken.plan import Record
from firsttoken.study.git import commit_with
from firsttoken.study.trace import Trace, digest

# Too large to ship with a study: their absence is said, but is no damage.
NOT_SHIPPED = re.compile(r"^results/(models/|[^/]+/engine(/|$)|[^/]+/raw/[^/]+/\d+\.logits$)")


class Provenance(Record, frozen=True, kw_only=True):
    """`results/{study}/provenance.json`: every job behind the study's outputs."""

    study: str
    jobs: tuple[Trace, ...]
    breaks: tuple[str, ...]  # a file that one job wrote and another read with other bytes


class Verdict(Record, frozen=True, kw_only=True):
    """What `verify` found, one line a file. `earlier`: code and inputs that are other ones now, while a commit has the
    bytes that were used."""

    checked: int
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
    by_output: dict[str, Trace] = {}
    for path in sorted({trace for log in logs for trace in _traces(log)}):
        trace = read_json(path, Trace)
        by_output |= dict.fromkeys(trace.outputs, trace)
    behind: dict[str, Trace] = {}
    queue = list(results)
    while queue:
        found = by_output.get(queue.pop())
        if found is not None and (key := min(found.outputs)) not in behind:
            behind[key] = found
            queue.extend(found.inputs)
    jobs = tuple(behind[key] for key in sorted(behind))
    return Provenance(study=study, jobs=jobs, breaks=tuple(_breaks(jobs)))


def write_provenance(study: str, results: Iterable[str], logs: Iterable[Path], target: Path) -> None:
    """Write `provenance.json`. Raises ValueError where an output was changed between the job that wrote it and one that
    read it."""
    provenance = collect(study, results, logs)
    write_json(target, provenance)
    if provenance.breaks:
        raise ValueError(provenance.breaks[0])


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
    """Hash everything that the study was made of and compare. `root` is the project's folder."""
    provenance = read_json(provenance_file, Provenance)
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
    lines: dict[str, list[str]] = {name: [] for name in ("changed", "missing", "earlier", "not_shipped")}
    for path, values in sorted(recorded.items()):
        place, kind = moved(path), what[path]
        found = digest(place, trust_manifest=False) if place.exists() else None
        for value in sorted(values - {found}):
            if kind != "result" and (commit := commit_with(root, path, value)):
                lines["earlier"].append(f"{kind} {path}: as of commit {commit[:7]}, not as it is now")
            elif found is not None:
                lines["changed"].append(f"{kind} {path}: its bytes have changed")
            else:
                lines["not_shipped" if NOT_SHIPPED.match(path) else "missing"].append(f"{kind} {path}: missing")
    return Verdict(checked=len(recorded), **{name: tuple(found) for name, found in lines.items()})


def _shipped_elsewhere(provenance: Provenance, provenance_file: Path, root: Path) -> Callable[[str], Path]:
    """A study may lie elsewhere than where it was made, e.g. under results/reference/: its own files move with it."""
    home = f"results/{provenance.study}/"

    def place(path: str) -> Path:
        if path.startswith(home):
            return provenance_file.parent / path.removeprefix(home)
        return root / path

    return place
