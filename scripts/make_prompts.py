"""In: the model's tokenizer, the corpus or own prompts. Out: prompts.json, real text of exact lengths."""

from pathlib import Path

from firsttoken.files import write_json
from firsttoken.inputs.prompts import make_prompts, take_prompts
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        model, params = Path(snakemake.input.model), snakemake.params
        if own := snakemake.input.get("own"):
            prompts = take_prompts(model, Path(own), params.lengths, params.seed)
        else:
            corpus = Path(snakemake.input.corpus)
            prompts = make_prompts(model, corpus, params.lengths, params.per_length, params.seed)
        write_json(snakemake.output.prompts, prompts)
