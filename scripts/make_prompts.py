"""In: the model's tokenizer and the corpus. Out: prompts.json, real text of exact lengths."""

from pathlib import Path

from firsttoken.files import write_json
from firsttoken.inputs.prompts import make_prompts
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        prompts = make_prompts(
            Path(snakemake.input.model),
            Path(snakemake.input.corpus),
            snakemake.params.lengths,
            snakemake.params.per_length,
            snakemake.params.seed,
        )
        write_json(snakemake.output.prompts, prompts)
