"""In: the published claims, this study's tables and experiments. Out: claims.csv, a verdict a claim."""

from firsttoken.analysis.claims import judge_claims
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        judge_claims(
            published=snakemake.input.published,
            summary=snakemake.input.summary,
            process_statistics=snakemake.input.processes,
            environment=snakemake.input.environment,
            manifest=snakemake.input.manifest,
            dtype=snakemake.params.dtype,
            out_csv=snakemake.output.claims,
            pool_memory=snakemake.input.get("pool_memory"),
            pool_misses=snakemake.input.get("pool_misses"),
            ipc=snakemake.input.get("ipc"),
        )
