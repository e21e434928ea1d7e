"""In: pooled samples, run records, equality, ceilings. Out: the tables of latencies, by process, by length and in
sum."""

from firsttoken.analysis.latency_tables import summarise_latency
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        summarise_latency(
            samples=snakemake.input.samples,
            records=snakemake.input.records,
            equivalence=snakemake.input.equivalence,
            ceilings=snakemake.input.ceilings,
            source_files_by_approach=snakemake.params.source_files,
            approach_order=snakemake.params.order,
            controls=snakemake.params.controls,
            out_summary=snakemake.output.summary,
            out_latency_by_length=snakemake.output.by_length,
            out_process_statistics=snakemake.output.processes,
            out_instrument=snakemake.output.instrument,
        )
