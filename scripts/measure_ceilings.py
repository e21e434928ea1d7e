"""In: the model's manifest. Out: ceilings.json: this device's measured bandwidth and matrix rate, and the floors they
set."""

import msgspec

from firsttoken.files import read_json, write_json
from firsttoken.hardware import device_lock, visible_gpu
from firsttoken.measure.ceilings import measure_ceilings
from firsttoken.plan import ModelManifest, Plan
from firsttoken.study.job import job, require_gpu_slot

if __name__ == "__main__":
    with job(snakemake):
        require_gpu_slot(snakemake)
        plan = msgspec.convert(snakemake.params.plan, Plan)
        gpu = visible_gpu() if plan.device == "cuda" else None
        with device_lock(gpu.uuid if gpu else "cpu"):
            ceilings = measure_ceilings(
                manifest=read_json(snakemake.input.manifest, ModelManifest),
                prompt_lengths=plan.prompt_lengths,
                new_tokens=plan.new_tokens,
                dtype=plan.dtype,
                device=plan.device,
                threads=plan.threads,
            )
        write_json(snakemake.output.ceilings, ceilings)
