"""Out: speedup over the baseline with intervals, as SVG and CSV."""

from pathlib import Path

from firsttoken.analysis.figures.speedup import plot_speedup
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_speedup(
            latency_csv=Path(snakemake.input.latency),
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
        )
