"""From the jobs' traces to `provenance.json`: every job behind a study's outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from firsttoken.files import read_json, write_json
from firsttoken.plan import Record
from firsttoken.pooled_runs import SCHEMA_VERSION
from firsttoken.study.trace import Trace, traces_by_output

MANIFEST = re.compile(r"^results/models/[^/]+\.json$")
SHIPPED_MANIFEST = "model.json"  # the model's manifest beside a shipped study


class Provenance(Record, frozen=True, kw_only=True):
    """`results/{study}/provenance.json`: every job behind the study's outputs."""

    study: str
    schema_version: int = 1  # of the study's files; version 1 did not say
    jobs: tuple[Trace, ...]
    breaks: tuple[str, ...]  # a file that one job wrote and another read with other bytes


def collect(study: str, results: Iterable[str], logs: Iterable[Path]) -> Provenance:
    """The jobs behind `results`, found among the traces in the log folders and files: who wrote each, and what it read
    in turn."""
    return jobs_behind(study, results, {path: trace for path, (_, trace) in traces_by_output(logs).items()})


def jobs_behind(study: str, results: Iterable[str], by_output: Mapping[str, Trace]) -> Provenance:
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


def _breaks(traces: Sequence[Trace]) -> Iterable[str]:
    written = {path: (value, trace.rule) for trace in traces for path, value in trace.outputs.items()}
    for trace in traces:
        for path, value in trace.inputs.items():
            if path in written and written[path][0] != value:
                yield (
                    f"{path}: {trace.rule} read other bytes than {written[path][1]} wrote; "
                    "it was changed by hand: delete it and run again"
                )
