"""In: the templates, the code, the tables, the run records. Out: a page of each approach, and the overview."""

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
            records=read_records(snakemake.input.records),
        )
        for page in map(Path, snakemake.output):
            render_page(page.stem, inputs, page)
