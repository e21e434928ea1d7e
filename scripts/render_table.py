"""In: a table (CSV) or a record (JSON). Out: it as a page that sorts and downloads."""

from pathlib import Path

from firsttoken.report.record_page import render_record
from firsttoken.report.table_page import render_table
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        source = Path(snakemake.input.table)
        render = render_record if source.suffix == ".json" else render_table
        assets = Path(snakemake.input.assets[0]).parent
        render(source, Path(snakemake.output.page), snakemake.params.title, assets=assets)
