"""In: the model's folder. Out: the TensorRT-LLM engine and its manifest, with every option and version that made it."""

from pathlib import Path

import msgspec

from firsttoken.device_job import device_job
from firsttoken.external.tensorrt_llm.engine import build_trtllm_engine
from firsttoken.plan import Plan
from firsttoken.study.job import snakemake

if __name__ == "__main__":  # TensorRT-LLM's MPI workers import this file
    with device_job(snakemake, "cuda"):
        build_trtllm_engine(
            Path(snakemake.input.model),
            msgspec.convert(snakemake.params.plan, Plan),
            Path(snakemake.output.engine),
            Path(snakemake.output.manifest),
            expected_gpu=snakemake.params.expected_gpu,
        )
