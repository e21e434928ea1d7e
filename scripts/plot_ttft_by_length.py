"""Out: TTFT by prompt length, with intervals and floors, as SVG and CSV."""

from pathlib import Path

from firsttoken.analysis.figures.ttft_by_length import plot_ttft_by_length
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_ttft_by_length(
            latency_csv=Path(snakemake.input.latency),
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
        )
