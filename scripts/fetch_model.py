"""In: the config's model section and the corpus. Out: the model's folder (safetensors, tokenizer) and its manifest."""

from pathlib import Path

from firsttoken.files import write_json
from firsttoken.inputs.fetch import fetch_model
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        manifest = fetch_model(snakemake.params.model, Path(snakemake.output.model), Path(snakemake.input.corpus))
        write_json(snakemake.output.manifest, manifest)
