"""In: the model's tokenizer and the corpus. Out: prompts.json, real text of exact lengths."""

from pathlib import Path

from firsttoken.files import write_json
from firsttoken.inputs.prompts import make_prompts
from firsttoken.study.job import job


def main(model: str, corpus: str, lengths: list[int], per_length: int, seed: int, prompts: str) -> None:
    """Cut the prompts and write them."""
    write_json(prompts, make_prompts(Path(model), Path(corpus), lengths, per_length, seed))


if __name__ == "__main__":
    with job(snakemake):
        main(
            snakemake.input.model,
            snakemake.input.corpus,
            snakemake.params.lengths,
            snakemake.params.per_length,
            snakemake.params.seed,
            snakemake.output.prompts,
        )
