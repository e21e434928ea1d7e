"""What an engine of its own needs, made in the interpreter of its environment: `python -m firsttoken.external.prepare
JOB.json`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from firsttoken.child_job import child_job
from firsttoken.files import read_json
from firsttoken.plan import Plan, Record


class PrepareJob(Record, frozen=True, kw_only=True):
    """JOB.json."""

    environment: str
    model_dir: str
    plan: Plan
    engine_dir: str
    manifest: str
    log: str


def main(path: str) -> None:
    """Call `prepare_engine` of the environment's own module."""
    job = read_json(path, PrepareJob)
    with child_job(job.log):
        import_module(f"firsttoken.external.{job.environment}.engine").prepare_engine(
            Path(job.model_dir), job.plan, Path(job.engine_dir), Path(job.manifest)
        )


if __name__ == "__main__":  # TensorRT-LLM's MPI workers import this module
    main(sys.argv[1])
