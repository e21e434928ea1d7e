"""In: the config's model section and the corpus. Out: the model's folder (safetensors, tokenizer) and its manifest."""

from pathlib import Path

from firsttoken.files import write_json
from firsttoken.inputs.fetch import fetch_model
from firsttoken.study.job import job


def main(model: dict, corpus: str, folder: str, manifest: str) -> None:
    """Fetch or make the weights and write down what they are."""
    write_json(manifest, fetch_model(model, Path(folder), Path(corpus)))


if __name__ == "__main__":
    with job(snakemake):
        main(snakemake.params.model, snakemake.input.corpus, snakemake.output.model, snakemake.output.manifest)
