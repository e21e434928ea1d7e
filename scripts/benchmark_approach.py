"""In: model, prompts, reference tokens. Out: samples, record, tokens and logits of one fresh process of one
approach."""

from time import perf_counter_ns

import msgspec

from firsttoken.approaches.base import approach_class
from firsttoken.child_job import Crashed, find_python, run_module
from firsttoken.device_job import device_job
from firsttoken.files import read_json
from firsttoken.measure.run_request import RunJob, RunOutputs, RunRequest
from firsttoken.plan import Plan, Prompts
from firsttoken.study.job import snakemake
from firsttoken.study.sources import code_digest

if __name__ == "__main__":
    plan = msgspec.convert(snakemake.params.plan, Plan)
    approach = approach_class(snakemake.wildcards.approach)
    with device_job(snakemake, plan.device) as device:
        request = RunRequest(
            approach=approach.name,
            repeat=int(snakemake.wildcards.repeat),
            model_dir=snakemake.input.model,
            plan=plan,
            prompts=read_json(snakemake.input.prompts, Prompts),
            requests_per_length=snakemake.params.requests,
            pause_ms=snakemake.params.pause_ms,
            reference_path=snakemake.input.get("reference") or "",
            logit_prompts_per_length=snakemake.params.logit_prompts_per_length,
            model_hash=snakemake.params.model_hash,
            code_sha256=code_digest(snakemake.params.code),
            fingerprint=snakemake.params.fingerprint,
            gpu_uuid=device.gpu.uuid if device.gpu else None,
            process_started_ns=perf_counter_ns(),
        )
        job = RunJob(request=request, outputs=RunOutputs(**dict(snakemake.output.items())), log=snakemake.log[0])
        try:
            run_module(find_python(approach.environment, snakemake.params.python), "firsttoken.measure.run", job)
        except Crashed as error:
            from firsttoken.measure.harness import write_failed_run  # here: it imports what the run's process has

            write_failed_run(request, approach, job.outputs, str(error))
