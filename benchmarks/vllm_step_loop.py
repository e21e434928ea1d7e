"""What the harness adds to vLLM: `vllm` as it is measured, beside vLLM's step loop timed by hand in the same process.

    PYTHONPATH=scripts .venv-vllm/bin/python benchmarks/vllm_step_loop.py MODEL_DIR DTYPE OUT.csv     (on a GPU)

Requests of the two alternate. The aim is a ratio within 1 % of 1, of TTFT and of token gaps, at every prompt length.
"""

from __future__ import annotations

import csv
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from firsttoken.approaches.vllm import Vllm
from firsttoken.measure.clocks import StampingSink, run_request
from firsttoken.plan import Plan

LENGTHS = (10, 250, 500)
NEW_TOKENS = 32
REQUESTS = 40  # of each kind and length
WARM = 4


def by_hand_ns(approach: Vllm, ids: list[int], number: int) -> list[int]:
    """Latencies of one request's tokens, as somebody would time them who knows nothing of this project."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine = approach._engine
    parameters = SamplingParams(
        temperature=0.0,
        max_tokens=NEW_TOKENS,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    stamps = [perf_counter_ns()]
    engine.add_request(f"by hand {number}", {"prompt_token_ids": ids}, parameters)
    while engine.has_unfinished_requests():
        for output in engine.step():
            stamps += [perf_counter_ns()] * len(output.outputs[0].token_ids)
    return [after - before for before, after in pairwise(stamps)]


def main(model_dir: str, dtype: str, out: str) -> None:
    """Measure, print and write a row a prompt length."""
    plan = Plan(
        prompt_lengths=LENGTHS,
        new_tokens=NEW_TOKENS,
        max_context=max(LENGTHS) + NEW_TOKENS,
        dtype=dtype,  # type: ignore[arg-type]
        device="cuda",
    )
    rows = []
    with Vllm() as approach:
        approach.load(Path(model_dir), plan)
        sink = StampingSink(NEW_TOKENS)
        for length in LENGTHS:
            hand: list[list[int]] = []
            ours: list[list[int]] = []
            for number in range(WARM + REQUESTS):
                ids = [(7 + 13 * i + 5 * i * i + number) % 250 for i in range(length)]
                hand.append(by_hand_ns(approach, ids, 1000 * length + number))
                started_ns = run_request(approach, ids, NEW_TOKENS, sink)
                ours.append(sink.latencies_ns(started_ns).tolist())
            row: dict[str, float] = {"prompt_length": length, "requests": REQUESTS}
            for metric, part in (("ttft", slice(0, 1)), ("token_gap", slice(1, None))):
                for name, latencies in (("by_hand", hand), ("harness", ours)):
                    row[f"{metric}_{name}_ms"] = median(ns for each in latencies[WARM:] for ns in each[part]) / 1e6
                row[f"{metric}_ratio"] = row[f"{metric}_harness_ms"] / row[f"{metric}_by_hand_ms"]
            rows.append(row)
            print({name: round(value, 4) for name, value in row.items()}, flush=True)
    with open(out, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
