"""In: the model and the corpus; none for `ipc`. Out: the table of one experiment.

`ipc`: the price of the socket. `clients`: clients that share one model's queue, or have copies of the model.
`pool_memory`: memory over many prompt lengths, with a rolling and an unbounded pool. `pool_misses`: TTFT at prompt
lengths that were not captured beforehand, against captured ones. `launches`: what the host launches for one token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from firsttoken.device_job import HeldDevice, device_job
from firsttoken.experiment_tables import write_experiment
from firsttoken.hardware import device_memory
from firsttoken.plan import Plan
from firsttoken.study.job import snakemake


def experiment_rows(name: str, plan: Plan, inputs: Any, lengths: list[int], device: HeldDevice) -> Sequence[Any]:
    """Run one experiment. The imports are each experiment's own: an edit reruns those that use it."""
    if name == "ipc":
        from firsttoken.measure.ipc import measure_ipc

        return measure_ipc(plan)
    from firsttoken.inputs.prompts import make_prompts

    model, uuid = Path(inputs.model), device.gpu.uuid if device.gpu else ""
    made = make_prompts(model, Path(inputs.corpus), lengths, 1, plan.seed)
    prompts = [prompt.token_ids for prompt in made.prompts]
    if name == "clients":
        from firsttoken.measure.clients import measure_clients

        with device_memory(uuid, "free") as free_bytes:
            return measure_clients(model, plan, prompts[0], device.log.info, free_bytes)
    if name == "launches":
        from firsttoken.approaches.cuda_graph_1p import CudaGraphOneProcess
        from firsttoken.approaches.eager_loop import EagerLoop
        from firsttoken.measure.launches import measure_launches

        return measure_launches((EagerLoop, CudaGraphOneProcess), model, plan, prompts[0])
    from firsttoken.approaches.jit_cuda import JitCuda
    from firsttoken.measure.experiments import measure_pool_memory, measure_pool_misses

    if name == "pool_misses":
        return measure_pool_misses(JitCuda, model, plan, prompts, device.log.info)
    with device_memory(uuid, "used") as used_bytes:
        return measure_pool_memory(JitCuda, model, plan, prompts, device.log.info, used_bytes)


if __name__ == "__main__":
    plan = msgspec.convert(snakemake.params.plan, Plan)
    with device_job(snakemake, plan.device) as device:
        name = snakemake.wildcards.experiment
        rows = experiment_rows(name, plan, snakemake.input, snakemake.params.lengths, device)
        write_experiment(pd.DataFrame([msgspec.to_builtins(row) for row in rows]), name, snakemake.output.table)
