"""In: model, its manifest, prompts. Out: reference.safetensors, the float32 greedy tokens and logits that every
approach must match."""

from pathlib import Path

from firsttoken.device_job import device_job
from firsttoken.files import read_json
from firsttoken.hf.reference import make_reference
from firsttoken.plan import ModelManifest, Prompts
from firsttoken.study.job import snakemake

if __name__ == "__main__":
    with device_job(snakemake, snakemake.params.device):
        make_reference(
            model_dir=Path(snakemake.input.model),
            prompts=read_json(snakemake.input.prompts, Prompts),
            new_tokens=snakemake.params.new_tokens,
            max_context=read_json(snakemake.input.manifest, ModelManifest).max_context,
            logit_prompts_per_length=snakemake.params.logit_prompts_per_length,
            device=snakemake.params.device,
            threads=snakemake.params.threads,
            out=Path(snakemake.output.reference),
        )
