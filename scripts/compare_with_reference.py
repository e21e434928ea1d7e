"""In: every run's tokens and logits, and the reference. Out: equality_positions.csv, a row an approach and position."""

from firsttoken.analysis.equality_positions import compare_with_reference
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        compare_with_reference(
            records=snakemake.input.records,
            logits_dirs=snakemake.input.logits,
            reference=snakemake.input.reference,
            out_positions=snakemake.output.positions,
        )
