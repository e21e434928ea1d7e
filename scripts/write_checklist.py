"""In: the study's tables and records. Out: checklist.csv: twelve rules of honest benchmarking and how far each is
met."""

from firsttoken.analysis.checklist import write_checklist
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        write_checklist(
            summary=snakemake.input.summary,
            latency_by_length=snakemake.input.by_length,
            process_statistics=snakemake.input.processes,
            instrument=snakemake.input.instrument,
            records=snakemake.input.records,
            environment=snakemake.input.environment,
            ceilings=snakemake.input.ceilings,
            figures=snakemake.params.figures,
            out_csv=snakemake.output.checklist,
        )
