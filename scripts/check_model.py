"""In: the model's folder and manifest. Out: model_check.json, the hashes of its files as they are on disk; beside it in
.cache what measuring processes compare."""

from pathlib import Path

from firsttoken.files import read_json
from firsttoken.inputs.model_check import check_model
from firsttoken.plan import ModelManifest
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake) as log:
        check_model(
            folder=Path(snakemake.input.model),
            manifest=read_json(snakemake.input.manifest, ModelManifest),
            check=Path(snakemake.output.check),
            progress=log.info,
        )
