"""A finished study as it ships, read back for what is made of several studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from firsttoken import files
from firsttoken.analysis.approach_results import ApproachResult, approach_results, shown_statistics
from firsttoken.analysis.equivalence import judge_study
from firsttoken.analysis.processes import ProcessTable
from firsttoken.analysis.requests import Requests, process_statistics, read_requests
from firsttoken.pooled_runs import read_records
from firsttoken.results import Environment, RunRecord
from firsttoken.yaml_files import read_yaml


class FinishedStudy(NamedTuple):
    """What a study found: made of its data alone, since shipped studies have no tables but that of positions."""

    folder: Path
    config: dict[str, Any]
    environment: Environment
    records: list[RunRecord]
    results: list[ApproachResult]
    requests: Requests
    processes: ProcessTable

    @property
    def name(self) -> str:
        """The folder below results/; the config's `study` is the same on every host."""
        return "/".join(self.folder.parts[-2 if self.folder.parent.name == "reference" else -1 :])

    @property
    def gpus(self) -> list[str]:
        """The UUIDs of the GPUs over which the processes were spread."""
        return sorted({run.gpu_uuid for run in self.records if run.gpu_uuid})

    @property
    def host(self) -> str:
        """The UUIDs of its GPUs. A CPU has no number of its own: machines that agree in all of this count as one."""
        machine = self.environment
        if machine.gpu:
            return ", ".join(self.gpus) or machine.gpu.uuid
        return f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes} bytes of memory, {machine.os}"


def read_study(folder: Path, bounds: Path | str) -> FinishedStudy:
    """Read results/{study}/ or results/reference/{study}/. `bounds` is config/equality_bounds.csv."""
    records = read_records(folder / "records.parquet")
    config_file = folder / "config.yaml"
    config = read_yaml(config_file) if config_file.exists() else {}
    method = "greedy" if config.get("workload", {}).get("sampling", "greedy") == "greedy" else "sample"
    positions = folder / "tables" / "equality_positions.csv"
    equivalence = judge_study(positions, records, bounds, records[0].dtype, method)
    results = approach_results(records, equivalence, config.get("approaches", []))
    requests = read_requests(folder / "samples.parquet")
    processes = ProcessTable(shown_statistics(process_statistics(requests), results))
    environment = files.read_json(folder / "environment.json", Environment)
    return FinishedStudy(folder, config, environment, records, results, requests, processes)
