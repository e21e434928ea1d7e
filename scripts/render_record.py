"""In: a JSON record of the study. Out: it as a page."""

from pathlib import Path

from firsttoken.report.record_page import render_record
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        render_record(
            Path(snakemake.input.record),
            Path(snakemake.output.page),
            snakemake.params.title,
            assets=Path(snakemake.input.assets[0]).parent,
        )
