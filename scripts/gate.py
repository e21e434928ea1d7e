"""In: one table or verdict. Out: nothing, or the end of the run with one line; the rule's name says which gate it
is."""

from pathlib import Path

from firsttoken.analysis.gates import gate_equality, gate_floors, gate_regression, gate_status
from firsttoken.study.job import job

if __name__ == "__main__":
    with job(snakemake):
        table = snakemake.input.table
        if snakemake.rule == "gate_floors":
            gate_floors(table)
        elif snakemake.rule == "gate_equality":
            gate_equality(table)
        elif snakemake.rule == "gate_status":
            gate_status(table, snakemake.params.on_unavailable)
        elif snakemake.rule == "gate_regression":
            gate_regression(table)
        else:
            raise RuntimeError(f"rule {snakemake.rule}: no such gate")
        Path(snakemake.output.passed).write_text("passed\n", encoding="utf-8")
