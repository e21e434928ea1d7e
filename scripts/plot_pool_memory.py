"""Out: device memory over many prompt lengths, rolling pool against unbounded, as SVG and CSV."""

from pathlib import Path

from firsttoken.analysis.figures.pool_memory import plot_pool_memory
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_pool_memory(
            experiment_csv=Path(snakemake.input.experiment),
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
        )
