"""Out: TTFT over the order of requests: drift, as SVG and CSV."""

from pathlib import Path

from firsttoken.analysis.figures.run_order import plot_run_order
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_run_order(
            samples_parquet=Path(snakemake.input.samples),
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
        )
