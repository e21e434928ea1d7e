"""In: a table (CSV) or a record (JSON); for some tables the environment. Out: a page that sorts and downloads."""

from pathlib import Path

from firsttoken.report.claims_page import render_claims
from firsttoken.report.record_page import render_record
from firsttoken.report.table_page import emulation_note, render_table
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        source = Path(snakemake.input.table)
        page, title = Path(snakemake.output.page), snakemake.params.title
        assets = Path(snakemake.input.assets[0]).parent
        if source.suffix == ".json":
            render_record(source, page, title, assets=assets)
        elif source.stem == "claims":
            render_claims(source, page, title, assets=assets)
        else:
            environment = snakemake.input.get("environment")
            note = emulation_note(Path(environment)) if environment else ""
            render_table(source, page, title, assets=assets, description=note)
