"""In: model and prompts. Out: reference.safetensors, the float32 greedy tokens and logits that every approach must
match."""

from pathlib import Path

from firsttoken.files import read_json
from firsttoken.hardware import device_lock, visible_gpu
from firsttoken.hf.reference import make_reference
from firsttoken.inputs.model_check import require_checked
from firsttoken.plan import Prompts
from firsttoken.study.job import job, require_gpu_slot

if __name__ == "__main__":
    with job(snakemake):
        require_gpu_slot(snakemake)
        gpu = visible_gpu() if snakemake.params.device == "cuda" else None
        with device_lock(gpu.uuid if gpu else "cpu"):  # it measures nothing, but would disturb who does
            require_checked(Path(snakemake.input.model), Path(snakemake.input.model_check))
            make_reference(
                model_dir=Path(snakemake.input.model),
                prompts=read_json(snakemake.input.prompts, Prompts),
                new_tokens=snakemake.params.new_tokens,
                logit_prompts_per_length=snakemake.params.logit_prompts_per_length,
                device=snakemake.params.device,
                threads=snakemake.params.threads,
                out=Path(snakemake.output.reference),
            )
