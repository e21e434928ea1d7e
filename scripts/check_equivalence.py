"""In: the table of positions, the records and the bounds. Out: equivalence.csv, a verdict an approach."""

from firsttoken.analysis.equivalence import check_equivalence
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
