"""What the dynamic work of a step costs, native and compiled: `python benchmarks/dynamic_ops.py [--device cuda]`.

`advance`: the next token chosen from 32,000 logits, position and mask moved on. Target on two cores that do nothing
else: with temperature and top-p the compiled form is no slower than the native one. For greedy choice there is no
target: the work is small, and a compiled call has a price of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import torch
from transformers import LlamaConfig

from firsttoken.hf.jit_ops import JitOps
from firsttoken.hf.masks import MaskPlan
from firsttoken.hf.native_ops import HfState, NativeOps
from firsttoken.plan import Sampling

VOCABULARY, CONTEXT = 32_000, 512
ROUNDS, CALLS = 7, 60  # forms take turns, so that a drift of the machine meets all of them
SAMPLINGS = {
    "greedy": Sampling(),
    "temperature 0.8": Sampling(method="sample", temperature=0.8),
    "temperature 0.8, top-p 0.9": Sampling(method="sample", temperature=0.8, top_p=0.9),
}
FORMS = ("native", "inductor", "torchscript")


def make_ops(form: str, sampling: Sampling, device: torch.device) -> Any:
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    state = HfState(MaskPlan(LlamaConfig(), dtype, device, CONTEXT), VOCABULARY, 1)
    state.logits.copy_(torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1)) * 3)
    return NativeOps(state, sampling, 1) if form == "native" else JitOps(state, sampling, form)


def call_us(ops: Any, device: torch.device) -> float:
    """Median of one `advance`, until its result is there."""
    times_ns = []
    with torch.inference_mode():
        ops.begin([1] * 10)
        for _ in range(CALLS):
            started_ns = perf_counter_ns()
            ops.advance()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times_ns.append(perf_counter_ns() - started_ns)
    return statistics.median(times_ns) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, load {os.getloadavg()[0]:.2f}")
    for name, sampling in SAMPLINGS.items():
        forms = {form: make_ops(form, sampling, device) for form in FORMS}
        found: dict[str, list[float]] = {form: [] for form in FORMS}
        for _ in range(ROUNDS):
            for form, ops in forms.items():
                found[form].append(call_us(ops, device))
        native = statistics.median(found["native"])
        for form, values in found.items():
            median = statistics.median(values)
            against = f"{median / native:5.2f}x native"
            print(f"{name:28} {form:12} median {median:8.1f} us   best {min(values):8.1f} us   {against}")


if __name__ == "__main__":
    main()
