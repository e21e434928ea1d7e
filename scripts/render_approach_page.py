"""In: a template, the code and the tables. Out: the page of one approach, or the overview, as one HTML file."""

from pathlib import Path

from firsttoken.analysis.pages.approach_page import PageInputs, render_page
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        inputs = PageInputs(
            templates=Path(snakemake.params.templates),
            assets=Path(snakemake.params.assets),
            package=Path(snakemake.params.package),
            summary_csv=Path(snakemake.input.summary),
            latency_csv=Path(snakemake.input.latency),
            claims_csv=Path(snakemake.input.claims),
            study=snakemake.wildcards.study,
        )
        render_page(snakemake.wildcards.page, inputs, Path(snakemake.output.page))
