"""In: the tables (CSV) and records (JSON). Out: a page of each that sorts and downloads."""

from pathlib import Path

from firsttoken.report.claims_page import render_claims
from firsttoken.report.record_page import render_record
from firsttoken.report.table_page import emulation_note, render_table
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        assets = Path(snakemake.input.assets[0]).parent
        sources, pages = map(Path, snakemake.input.tables), map(Path, snakemake.output)
        for source, page, title in zip(sources, pages, snakemake.params.titles, strict=True):
            if source.suffix == ".json":
                render_record(source, page, title, assets=assets)
            elif source.stem == "claims":
                render_claims(source, page, title, assets=assets)
            else:
                # The table of clients has no column of statuses.
                note = emulation_note(Path(snakemake.input.environment)) if source.stem == "clients" else ""
                render_table(source, page, title, assets=assets, description=note)
