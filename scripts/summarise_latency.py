"""In: pooled samples, run records, positions compared with the reference, ceilings. Out: who is equal to the reference,
and the tables of latencies, by process, by length and in sum."""

from firsttoken.analysis.equivalence import check_equivalence
from firsttoken.analysis.latency_tables import summarise_latency
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        check_equivalence(
            positions=snakemake.input.positions,
            records=snakemake.input.records,
            bounds=snakemake.input.bounds,
            dtype=snakemake.params.dtype,
            sampling=snakemake.params.sampling,
            out_csv=snakemake.output.equivalence,
        )
        summarise_latency(
            samples=snakemake.input.samples,
            records=snakemake.input.records,
            equivalence=snakemake.output.equivalence,
            ceilings=snakemake.input.ceilings,
            source_files_by_approach=snakemake.params.source_files,
            approach_order=snakemake.params.order,
            controls=snakemake.params.controls,
            out_summary=snakemake.output.summary,
            out_latency_by_length=snakemake.output.by_length,
            out_process_statistics=snakemake.output.processes,
            out_instrument=snakemake.output.instrument,
        )
