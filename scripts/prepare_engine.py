"""In: the model's folder. Out: what an engine of its own runs, and its manifest, with every option and version."""

from importlib import import_module
from pathlib import Path

import msgspec

from firsttoken.device_job import device_job
from firsttoken.plan import Plan
from firsttoken.study.job import snakemake

if __name__ == "__main__":  # TensorRT-LLM's MPI workers import this file
    plan = msgspec.convert(snakemake.params.plan, Plan)
    with device_job(snakemake, plan.device):
        import_module(f"firsttoken.external.{snakemake.wildcards.environment}.engine").prepare_engine(
            Path(snakemake.input.model),
            plan,
            Path(snakemake.output.engine),
            Path(snakemake.output.manifest),
            expected_gpu=snakemake.params.expected_gpu,
        )
