"""In: the comparison of two studies and its verdict. Out: both as a page, and as Markdown."""

from pathlib import Path

from firsttoken.analysis.compare import Comparison, in_words
from firsttoken.files import read_json
from firsttoken.report.summary_files import write_comparison
from firsttoken.report.table_page import render_table
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        words = in_words(read_json(snakemake.input.verdict, Comparison))
        write_comparison(Path(snakemake.input.table), words, Path(snakemake.output.markdown))
        render_table(
            Path(snakemake.input.table),
            Path(snakemake.output.page),
            f"{snakemake.wildcards.b} compared with {snakemake.wildcards.a}",
            assets=Path(snakemake.input.assets[0]).parent,
            description=words,
        )
