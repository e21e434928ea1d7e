"""In: the model's manifest, the vendors' peaks. Out: ceilings.json: this device's measured bandwidth and matrix rate,
and the floors that follow."""

import msgspec

from firsttoken.device_job import device_job
from firsttoken.files import read_json, write_json
from firsttoken.measure.ceilings import measure_ceilings
from firsttoken.measure.datasheet import datasheet_peak
from firsttoken.plan import ModelManifest, Plan
from firsttoken.study.job import snakemake

if __name__ == "__main__":
    plan = msgspec.convert(snakemake.params.plan, Plan)
    with device_job(snakemake, plan.device) as held:
        ceilings = measure_ceilings(
            manifest=read_json(snakemake.input.manifest, ModelManifest),
            prompt_lengths=plan.prompt_lengths,
            new_tokens=plan.new_tokens,
            dtype=plan.dtype,
            device=plan.device,
            threads=plan.threads,
            datasheet=datasheet_peak(snakemake.input.devices, held.gpu, plan.dtype),
        )
        write_json(snakemake.output.ceilings, ceilings)
