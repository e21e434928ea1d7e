"""In: the samples and records of all processes. Out: one Parquet; refuses to pool different machines, code or
versions."""

from pathlib import Path

from firsttoken.analysis.samples import pool_samples
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        pool_samples(
            [Path(path) for path in snakemake.input.samples],
            [Path(path) for path in snakemake.input.records],
            Path(snakemake.output.samples),
        )
