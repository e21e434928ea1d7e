"""In: the summary and the per-process statistics. Out: effects.csv: what graphs, JIT and the second process each cost
or save."""

from firsttoken.analysis.effects import estimate_effects
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        estimate_effects(snakemake.input.summary, snakemake.input.processes, snakemake.output.effects)
