"""In: the study's tables. Out: answer.txt: the summary table and the answer in three sentences, for the terminal."""

from firsttoken.analysis.answer import write_answer
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        write_answer(
            summary=snakemake.input.summary,
            latency_by_length=snakemake.input.by_length,
            process_statistics=snakemake.input.processes,
            environment=snakemake.input.environment,
            manifest=snakemake.input.manifest,
            out_txt=snakemake.output.answer,
        )
