"""In: model, prompts, reference tokens. Out: samples, record, tokens and logits of one fresh process of one
approach."""

import time

STARTED_NS = time.perf_counter_ns()  # first of all: the cold start counts the imports below

import hashlib  # noqa: E402
from collections.abc import Iterable  # noqa: E402
from pathlib import Path  # noqa: E402

import msgspec  # noqa: E402

from firsttoken.approaches.base import approach_class  # noqa: E402
from firsttoken.device_job import device_job  # noqa: E402
from firsttoken.files import read_json, sha256_file  # noqa: E402
from firsttoken.measure.environment import MEASURED_PACKAGES, package_versions  # noqa: E402
from firsttoken.measure.harness import run_benchmark  # noqa: E402
from firsttoken.measure.run_record import RunOutputs, RunRequest  # noqa: E402
from firsttoken.plan import Plan, Prompts  # noqa: E402
from firsttoken.study.job import snakemake  # noqa: E402


def code_digest(sources: Iterable[str]) -> str:
    """One digest over the source files that made the samples; runs of other code are not pooled."""
    total = hashlib.sha256()
    for path in sorted(sources):
        total.update(sha256_file(path).encode())
    return total.hexdigest()


if __name__ == "__main__":
    plan = msgspec.convert(snakemake.params.plan, Plan)
    with device_job(snakemake, plan.device) as device:
        reference = snakemake.input.get("reference")
        request = RunRequest(
            approach=snakemake.wildcards.approach,
            repeat=int(snakemake.wildcards.repeat),
            model_dir=Path(snakemake.input.model),
            plan=plan,
            prompts=read_json(snakemake.input.prompts, Prompts),
            requests_per_length=snakemake.params.requests,
            pause_ms=snakemake.params.pause_ms,
            reference_path=Path(reference) if reference else None,
            logit_prompts_per_length=snakemake.params.logit_prompts_per_length,
            process_started_ns=STARTED_NS,
            waited_ns=device.waited_ns,
            model_hash=snakemake.params.model_hash,
            code_sha256=code_digest(snakemake.input.sources),
            fingerprint=snakemake.params.fingerprint,
            versions=package_versions(MEASURED_PACKAGES),
            gpu_uuid=device.gpu.uuid if device.gpu else None,
            expected_gpu=snakemake.params.expected_gpu,
        )
        outputs = RunOutputs(**{name: Path(path) for name, path in snakemake.output.items()})
        run_benchmark(request, approach_class(request.approach), outputs)
