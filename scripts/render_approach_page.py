"""In: a template, the code, the tables, the run records. Out: the page of one approach, or the overview."""

from pathlib import Path

from firsttoken.pooled_runs import read_records
from firsttoken.report.approach_page import render_page
from firsttoken.report.documents import PageInputs
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        inputs = PageInputs(
            templates=Path(snakemake.input.templates[0]).parent,
            assets=Path(snakemake.input.assets[0]).parent,
            package=Path(snakemake.scriptdir) / "firsttoken",
            summary_csv=Path(snakemake.input.summary),
            latency_csv=Path(snakemake.input.latency),
            claims_csv=Path(snakemake.input.claims),
            answer_txt=Path(snakemake.input.answer),
            study=snakemake.wildcards.study,
            records=tuple(read_records(snakemake.input.records)),
        )
        render_page(snakemake.wildcards.page, inputs, Path(snakemake.output.page))
