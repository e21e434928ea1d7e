"""In: the model's folder. Out: what an engine of its own runs, and its manifest, with every option and version."""

import msgspec

from firsttoken.child_job import find_python, run_module
from firsttoken.device_job import device_job
from firsttoken.external.prepare import PrepareJob
from firsttoken.plan import Plan
from firsttoken.study.job import snakemake

if __name__ == "__main__":
    plan = msgspec.convert(snakemake.params.plan, Plan)
    with device_job(snakemake, plan.device):
        environment = snakemake.wildcards.environment
        job = PrepareJob(
            environment=environment,
            model_dir=snakemake.input.model,
            plan=plan,
            engine_dir=snakemake.output.engine,
            manifest=snakemake.output.manifest,
            log=snakemake.log[0],
        )
        run_module(find_python(environment, snakemake.params.python), "firsttoken.external.prepare", job)
