"""Out: seconds until ready, by part, as SVG and CSV."""

from pathlib import Path

from firsttoken.analysis.figures.setup_time import plot_setup_time
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_setup_time(
            records=[Path(path) for path in snakemake.input.records],
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
        )
