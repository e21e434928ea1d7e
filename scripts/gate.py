"""In: one table or verdict. Out: a file where the gate passes; else the end of the run with one line."""

from firsttoken.analysis import gates
from firsttoken.files import write_text
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        getattr(gates, f"gate_{snakemake.params.gate}")(snakemake.input.table, **snakemake.params.options)
        write_text(snakemake.output.passed, "passed\n")
