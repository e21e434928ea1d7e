"""A study's files as its verdicts read them: the answer, effects, dynamic work, claims, the checklist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.schemas import read_table
from firsttoken.files import read_json
from firsttoken.plan import ModelManifest
from firsttoken.pooled_runs import RAN, read_records
from firsttoken.results import Ceilings, Environment, RunRecord


@dataclass(frozen=True)
class StudyTables:
    """What a study found, and where; its samples are large, and each reader takes a few columns."""

    samples: Path
    summary: pd.DataFrame
    by_length: pd.DataFrame
    statistics: pd.DataFrame  # one number a process
    instrument: pd.DataFrame
    records: list[RunRecord]
    environment: Environment
    ceilings: Ceilings
    manifest: ModelManifest

    @classmethod
    def read(cls, found: Mapping[str, Path]) -> StudyTables:
        """`found`: the files by the names of the rule's inputs."""
        return cls(
            samples=found["samples"],
            summary=read_table(found["summary"], "summary"),
            by_length=read_table(found["latency_by_length"], "latency_by_length"),
            statistics=read_table(found["process_statistics"], "process_statistics"),
            instrument=read_table(found["instrument"], "instrument"),
            records=read_records(found["records"]),
            environment=read_json(found["environment"], Environment),
            ceilings=read_json(found["ceilings"], Ceilings),
            manifest=read_json(found["manifest"], ModelManifest),
        )

    @property
    def shown(self) -> pd.DataFrame:
        """The rows of the summary with latencies."""
        return self.summary[self.summary["status"].isin(RAN)]

    @property
    def cells(self) -> pd.DataFrame:
        """The rows of `by_length` with requests."""
        return self.by_length[self.by_length["n_requests"] > 0]

    @cached_property
    def processes(self) -> ProcessTable:
        return ProcessTable(self.statistics)
