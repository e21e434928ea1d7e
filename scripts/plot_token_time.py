"""Out: where a token's time goes, as SVG and CSV."""

from pathlib import Path

from firsttoken.analysis.figures.token_time import plot_token_time
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_token_time(
            samples_parquet=Path(snakemake.input.samples),
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
        )
