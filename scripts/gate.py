"""In: what one gate reads. Out: a file where it passes; else the end of the run with one line."""

from firsttoken.analysis import gates
from firsttoken.files import write_text
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        gate = getattr(gates, f"gate_{snakemake.params.gate}")
        read = {name: path for name, path in snakemake.input.items() if name != "evidence"}
        gate(**read, **snakemake.params.options)
        write_text(snakemake.output.passed, "passed\n")
