"""In: the summary, the per-process statistics and the run records. Out: effects.csv: what graphs, JIT, late reading and
the second process each cost or save."""

from firsttoken.analysis.effects import estimate_effects
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        estimate_effects(
            summary=snakemake.input.summary,
            process_statistics=snakemake.input.processes,
            records=snakemake.input.records,
            out_csv=snakemake.output.effects,
        )
