"""Out: after how many requests a faster approach has paid for its start, as SVG and CSV."""

from pathlib import Path

from firsttoken.analysis.figures.break_even import plot_break_even
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        plot_break_even(
            summary_csv=Path(snakemake.input.summary),
            out_svg=Path(snakemake.output.figure),
            out_csv=Path(snakemake.output.data),
            order=snakemake.params.order,
            new_tokens=snakemake.params.new_tokens,
        )
