"""In: the summary and the figure's own data. Out: the figure as SVG, its data as CSV, both on one page."""

from pathlib import Path

from firsttoken.analysis.figures.base import FigureInputs, plot
from firsttoken.report.figure_page import render_figure
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        svg, csv = Path(snakemake.output.figure), Path(snakemake.output.data)
        inputs = FigureInputs(
            files=[Path(path) for path in snakemake.input.files],
            summary=Path(snakemake.input.summary),
            order=snakemake.params.order,
            new_tokens=snakemake.params.new_tokens,
        )
        plot(snakemake.wildcards.figure, inputs, svg, csv)
        render_figure(
            svg=svg,
            csv=csv,
            out_html=Path(snakemake.output.page),
            title=snakemake.params.title,
            caption=snakemake.params.caption,
            assets=Path(snakemake.input.assets[0]).parent,
        )
