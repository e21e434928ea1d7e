"""In: finished studies of one config from several hosts. Out: the figures of each host and over hosts, and a page."""

from pathlib import Path

from firsttoken.analysis.hosts import combine_studies
from firsttoken.report.documents import read_answer
from firsttoken.report.table_page import render_table
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        hosts, table, words = (Path(snakemake.output[name]) for name in ("hosts", "table", "words"))
        folders = [Path(path).parent for path in snakemake.input.provenances]
        combine_studies(folders, snakemake.input.bounds, out_hosts=hosts, out_csv=table, out_txt=words)
        render_table(
            table,
            Path(snakemake.output.page),
            f"{len(folders)} host{'' if len(folders) == 1 else 's'} combined",
            assets=Path(snakemake.input.assets[0]).parent,
            description=" ".join(read_answer(words)),
            below=[("Each host", hosts)],
        )
