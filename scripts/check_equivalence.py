"""In: every run's tokens and logits, the reference and the bounds. Out: the evidence at every position, and a verdict
an approach."""

from firsttoken.analysis.equivalence import check_equivalence
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        check_equivalence(
            tokens_paths=snakemake.input.tokens,
            record_paths=snakemake.input.records,
            logits_dirs=snakemake.input.logits,
            reference=snakemake.input.reference,
            bounds=snakemake.input.bounds,
            dtype=snakemake.params.dtype,
            sampling=snakemake.params.sampling,
            out_positions=snakemake.output.positions,
            out_csv=snakemake.output.equivalence,
        )
