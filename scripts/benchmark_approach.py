"""In: model, prompts, reference tokens. Out: samples, record, tokens and logits of one fresh process of one
approach."""

import time

STARTED_NS = time.perf_counter_ns()  # first of all: the cold start counts the imports below

import dataclasses  # noqa: E402
import hashlib  # noqa: E402
from pathlib import Path  # noqa: E402

import msgspec  # noqa: E402

from firsttoken.approaches.base import approach_class  # noqa: E402
from firsttoken.files import read_json, sha256_file  # noqa: E402
from firsttoken.hardware import device_lock, visible_gpu  # noqa: E402
from firsttoken.inputs.model_check import require_checked  # noqa: E402
from firsttoken.measure.environment import MEASURED_PACKAGES, package_versions  # noqa: E402
from firsttoken.measure.harness import run_benchmark  # noqa: E402
from firsttoken.measure.run_record import RunOutputs, RunRequest  # noqa: E402
from firsttoken.plan import Plan, Prompts  # noqa: E402
from firsttoken.study.job import job, require_gpu_slot  # noqa: E402

FILES = ("model", "model_check", "prompts", "reference")  # inputs that a run reads; TensorRT-LLM's has no reference


def code_digest(sources: list[str]) -> str:
    """One digest over the source files that made the samples; runs of other code are not pooled."""
    total = hashlib.sha256()
    for path in sorted(sources):
        total.update(sha256_file(path).encode())
    return total.hexdigest()


def main(approach: str, repeat: int, run: dict, files: dict[str, str], sources: list[str], outputs: RunOutputs) -> None:
    """Measure once, with the device to ourselves."""
    plan = msgspec.convert(run["plan"], Plan)
    gpu = visible_gpu() if plan.device == "cuda" else None
    request = RunRequest(
        approach=approach,
        repeat=repeat,
        model_dir=Path(files["model"]),
        plan=plan,
        prompts=read_json(files["prompts"], Prompts),
        requests_per_length=run["requests"],
        pause_ms=run["pause_ms"],
        reference_path=Path(files["reference"]) if "reference" in files else None,
        logit_prompts_per_length=run["logit_prompts_per_length"],
        process_started_ns=STARTED_NS,
        model_hash=run["model_hash"],
        code_sha256=code_digest(sources),
        fingerprint=run["fingerprint"],
        versions=package_versions(MEASURED_PACKAGES),
        gpu_uuid=gpu.uuid if gpu else None,
        expected_gpu=run["expected_gpu"],
    )
    with device_lock(gpu.uuid if gpu else "cpu") as waited_ns:
        require_checked(request.model_dir, Path(files["model_check"]))  # stops the study: no approach failed
        run_benchmark(dataclasses.replace(request, waited_ns=waited_ns), approach_class(approach), outputs)


if __name__ == "__main__":
    with job(snakemake):
        require_gpu_slot(snakemake)
        main(
            approach=snakemake.wildcards.approach,
            repeat=int(snakemake.wildcards.repeat),
            run=snakemake.params.run,
            files={name: path for name, path in snakemake.input.items() if name in FILES},
            sources=list(snakemake.input.sources),
            outputs=RunOutputs(
                samples=Path(snakemake.output.samples),
                record=Path(snakemake.output.record),
                tokens=Path(snakemake.output.tokens),
                logits=Path(snakemake.output.logits),
            ),
        )
