"""In: the answer, the tables, machine and model. Out: landing.rst, which report/workflow.rst includes."""

from pathlib import Path

from firsttoken.report.landing import write_landing
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        write_landing(
            answer_txt=Path(snakemake.input.answer),
            summary_csv=Path(snakemake.input.summary),
            claims_csv=Path(snakemake.input.claims),
            environment_json=Path(snakemake.input.environment),
            manifest_json=Path(snakemake.input.manifest),
            workload=snakemake.params.workload,
            dtype=snakemake.params.dtype,
            out_rst=Path(snakemake.output.landing),
        )
