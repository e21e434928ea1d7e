"""In: the model's folder. Out: the TensorRT-LLM engine and its manifest, with every option and version that made it."""

from pathlib import Path

import msgspec

from firsttoken.external.tensorrt_llm.engine import build_trtllm_engine
from firsttoken.hardware import device_lock, require_gpu
from firsttoken.inputs.model_check import require_checked
from firsttoken.plan import Plan
from firsttoken.study.job import job, require_gpu_slot

if __name__ == "__main__":  # TensorRT-LLM's MPI workers import this file
    with job(snakemake):
        require_gpu_slot(snakemake)
        with device_lock(require_gpu().uuid):
            require_checked(Path(snakemake.input.model), Path(snakemake.input.model_check))
            build_trtllm_engine(
                Path(snakemake.input.model),
                msgspec.convert(snakemake.params.plan, Plan),
                Path(snakemake.output.engine),
                Path(snakemake.output.manifest),
                expected_gpu=snakemake.params.expected_gpu,
            )
