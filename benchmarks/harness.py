"""What the harness itself costs: `python benchmarks/harness.py` runs the approach that hands over constant tokens.

Prints the latencies that it reports for nothing, which every real figure contains. The aim is under 20 us a token.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firsttoken.approaches.base import approach_class
from firsttoken.files import read_json
from firsttoken.measure.harness import run_benchmark
from firsttoken.measure.run_request import RunOutputs, RunRequest
from firsttoken.plan import Plan, Prompt, Prompts
from firsttoken.results import RunRecord

LENGTHS = (10, 500)
NEW_TOKENS = 16
REQUESTS = 2000
AIM_US = 20.0


def measure(folder: Path) -> tuple[dict[str, np.ndarray], RunRecord]:
    """Run the null approach once; latencies in microseconds by what they are."""
    prompts = tuple(Prompt(index=0, length=length, offset=0, token_ids=(1,) * length) for length in LENGTHS)
    request = RunRequest(
        approach="null",
        repeat=1,
        model_dir=str(folder),
        plan=Plan(
            prompt_lengths=LENGTHS,
            new_tokens=NEW_TOKENS,
            max_context=max(LENGTHS) + NEW_TOKENS,
            dtype="float32",
            device="cpu",
        ),
        prompts=Prompts(seed=1, corpus_sha256="", tokenizer_sha256="", prompts=prompts),
        requests_per_length=REQUESTS,
    )
    run = f"{folder}/1"
    outputs = RunOutputs(
        samples=f"{run}.parquet", record=f"{run}.json", tokens=f"{run}.tokens.json", logits=f"{run}.logits"
    )
    run_benchmark(request, approach_class("null"), outputs)
    record = read_json(outputs.record, RunRecord)
    if record.status != "measured":
        raise RuntimeError(f"the null approach {record.status}: {record.reason}")
    frame = pq.read_table(outputs.samples, columns=["prompt_length", "token_index", "latency_ns"]).to_pandas()
    us = frame["latency_ns"].to_numpy() / 1e3
    first = (frame["token_index"] == 0).to_numpy()
    latencies = {f"TTFT, {n} tokens": us[first & (frame["prompt_length"] == n).to_numpy()] for n in LENGTHS}
    return latencies | {"token gap": us[~first]}, record


def main() -> int:
    """Print one table; 1 when the aim is missed."""
    with tempfile.TemporaryDirectory() as folder:
        latencies, record = measure(Path(folder))
    print(f"{'':18} {'median':>8} {'P99':>8} {'mean':>8}  us")
    for name, us in latencies.items():
        print(f"{name:18} {np.median(us):8.2f} {np.percentile(us, 99):8.2f} {us.mean():8.2f}")
    busy_us = sum(us.sum() for us in latencies.values())
    print(f"{record.requests} requests of {NEW_TOKENS} tokens: {busy_us / record.tokens:.2f} us a token")
    print(f"telemetry: {record.telemetry.samples} samples, CPU load {record.telemetry.cpu_load_mean}")
    return 0 if busy_us / record.tokens < AIM_US else 1


if __name__ == "__main__":
    raise SystemExit(main())
