"""In: the raw files of all runs. Out: samples.parquet and records.parquet; refuses to pool different machines, code or
versions."""

from firsttoken.pooled_runs import pool_runs
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        pool_runs(
            samples=snakemake.input.samples,
            records=snakemake.input.records,
            tokens=snakemake.input.tokens,
            out_samples=snakemake.output.samples,
            out_records=snakemake.output.records,
        )
