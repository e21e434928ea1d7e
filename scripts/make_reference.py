"""In: model and prompts. Out: reference.safetensors, the float32 greedy tokens and logits that every approach must
match."""

from pathlib import Path

from firsttoken.files import read_json
from firsttoken.records import Prompts
from firsttoken.runtime.reference import make_reference
from firsttoken.study.job import job, require_gpu_slot

if __name__ == "__main__":
    with job(snakemake):
        require_gpu_slot(snakemake)
        make_reference(
            model_dir=Path(snakemake.input.model),
            prompts=read_json(snakemake.input.prompts, Prompts),
            new_tokens=snakemake.params.new_tokens,
            logit_prompts_per_length=snakemake.params.logit_prompts_per_length,
            device=snakemake.params.device,
            threads=snakemake.params.threads,
            out=Path(snakemake.output.reference),
        )
