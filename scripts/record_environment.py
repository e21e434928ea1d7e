"""In: nothing but this machine. Out: environment.json: hardware, driver, package versions, which approaches can run."""

from pathlib import Path

from firsttoken.files import write_json
from firsttoken.measure.environment import record_environment
from firsttoken.results import Availability
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        approaches = {
            name: Availability(status=status, reason=reason)
            for name, (status, reason) in snakemake.params.availability.items()
        }
        write_json(
            snakemake.output.environment,
            record_environment(
                machine=snakemake.params.machine,
                software=snakemake.params.software,
                approaches=approaches,
                threads=snakemake.params.threads,
                folder=Path(snakemake.scriptdir),
                expected_gpu=snakemake.params.expected_gpu,
            ),
        )
