"""One run in a fresh process, in the interpreter of the approach's environment: `python -m firsttoken.measure.run
JOB.json`."""

from __future__ import annotations

import sys

import msgspec

from firsttoken.approaches.base import approach_class
from firsttoken.child_job import child_job
from firsttoken.files import read_json
from firsttoken.measure.environment import MEASURED_PACKAGES, package_versions
from firsttoken.measure.harness import run_benchmark
from firsttoken.measure.run_request import RunJob


def main(path: str) -> None:
    """Measure what the file says, with the versions of the packages that this interpreter has."""
    job = read_json(path, RunJob)
    with child_job(job.log):
        approach = approach_class(job.request.approach)
        versions = package_versions((*MEASURED_PACKAGES, *approach.packages))
        request = msgspec.structs.replace(job.request, versions=versions)
        run_benchmark(request, approach, job.outputs)


if __name__ == "__main__":  # engines that start processes of their own import this module there
    main(sys.argv[1])
