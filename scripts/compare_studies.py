"""In: two finished studies. Out: comparison.csv and .json: ratios with intervals and the verdict of b against a."""

from pathlib import Path

from firsttoken.analysis.compare import compare_studies
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        compare_studies(
            a=Path(snakemake.input.a).parent,
            b=Path(snakemake.input.b).parent,
            bounds=snakemake.input.bounds,
            threshold=snakemake.params.threshold,
            out_csv=snakemake.output.table,
            out_json=snakemake.output.verdict,
        )
