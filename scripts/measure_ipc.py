"""In: nothing but this machine. Out: ipc.csv, the price of two processes: null in one and two, with one, two and four
clients."""

import msgspec
import pandas as pd

from firsttoken.experiment_tables import write_experiment
from firsttoken.measure.device_lock import device_lock
from firsttoken.measure.environment import visible_gpu
from firsttoken.measure.ipc import measure_ipc
from firsttoken.plan import Plan
from firsttoken.study.job import job, require_gpu_slot

if __name__ == "__main__":
    with job(snakemake):
        require_gpu_slot(snakemake)
        plan = msgspec.convert(snakemake.params.plan, Plan)
        gpu = visible_gpu()[0] if plan.device == "cuda" else None
        with device_lock(gpu.uuid if gpu else "cpu"):
            rows = measure_ipc(plan)
        write_experiment(pd.DataFrame([msgspec.to_builtins(row) for row in rows]), "ipc", snakemake.output.table)
