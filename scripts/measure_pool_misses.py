"""In: the model and the corpus. Out: pool_misses.csv: TTFT at prompt lengths that were not captured beforehand, against
captured ones."""

from pathlib import Path

import msgspec
import pandas as pd

from firsttoken.approaches.base import approach_class
from firsttoken.experiment_tables import write_experiment
from firsttoken.inputs.model_check import require_checked
from firsttoken.inputs.prompts import make_prompts
from firsttoken.measure.device_lock import device_lock
from firsttoken.measure.environment import visible_gpu
from firsttoken.measure.experiments import measure_pool_misses
from firsttoken.plan import Plan
from firsttoken.study.job import job, require_gpu_slot

APPROACH = "jit_cuda"

if __name__ == "__main__":
    with job(snakemake) as log:
        require_gpu_slot(snakemake)
        plan = msgspec.convert(snakemake.params.plan, Plan)
        model, corpus = Path(snakemake.input.model), Path(snakemake.input.corpus)
        prompts = make_prompts(model, corpus, snakemake.params.lengths, 1, plan.seed).prompts
        gpu = visible_gpu()[0] if plan.device == "cuda" else None
        with device_lock(gpu.uuid if gpu else "cpu"):
            require_checked(model, Path(snakemake.input.model_check))
            rows = measure_pool_misses(
                approach_class(APPROACH), model, plan, [prompt.token_ids for prompt in prompts], log.info
            )
        write_experiment(
            pd.DataFrame([msgspec.to_builtins(row) for row in rows]), "pool_misses", snakemake.output.table
        )
