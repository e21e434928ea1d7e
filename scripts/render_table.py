"""In: a table. Out: it as a page that sorts and downloads."""

from pathlib import Path

from firsttoken.report.table_page import render_table
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        render_table(
            Path(snakemake.input.table),
            Path(snakemake.output.page),
            snakemake.params.title,
            assets=Path(snakemake.input.assets[0]).parent,
        )
