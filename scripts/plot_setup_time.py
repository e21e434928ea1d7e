"""Out: seconds until ready, by part, as SVG, CSV and a page."""

from pathlib import Path

from firsttoken.analysis.figures.setup_time import plot_setup_time
from firsttoken.report.figure_page import render_figure
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_setup_time(
            records=Path(snakemake.input.records),
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
        )
        render_figure(
            svg=Path(snakemake.output.figure),
            csv=Path(snakemake.output.data),
            out_html=Path(snakemake.output.page),
            title=snakemake.params.title,
            caption=Path(snakemake.input.caption).read_text(encoding="utf-8"),
            assets=Path(snakemake.input.assets[0]).parent,
        )
