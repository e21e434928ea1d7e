"""In: every run's tokens and logits, and the reference. Out: equivalence.csv, a verdict an approach."""

from firsttoken.analysis.equivalence import check_equivalence
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        check_equivalence(
            tokens_paths=snakemake.input.tokens,
            record_paths=snakemake.input.records,
            logits_dirs=snakemake.input.logits,
            reference=snakemake.input.reference,
            dtype=snakemake.params.dtype,
            logit_gap=snakemake.params.logit_gap,
            out_csv=snakemake.output.equivalence,
            sampling=snakemake.params.sampling,
        )
