"""TTFT, ms a token and token gaps of one approach in one process, without a study around it.

    python benchmarks/approach.py compiled_graph MODEL_DIR [--device cuda] [--lengths 10,250,500] [--requests 40]

Prints one line: medians by prompt length, percentiles of the token gaps, seconds until ready, and how the approach
computes. For a comparison of two versions of the code, let them take turns on one machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firsttoken.approaches.base import approach_class
from firsttoken.plan import Plan

NEW_TOKENS, WARM_REQUESTS = 20, 5


class Stamps:
    """A sink that notes when each token came."""

    def __init__(self) -> None:
        self.at_ns: list[int] = []

    def push(self, token: int) -> None:
        self.at_ns.append(time.perf_counter_ns())

    def push_chunk(self, tokens: Sequence[int]) -> None:
        self.at_ns += [time.perf_counter_ns()] * len(tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("approach")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--lengths", type=lambda text: [int(part) for part in text.split(",")], default=[10, 250, 500])
    parser.add_argument("--requests", type=int, default=40, help="of each length")
    parser.add_argument("--spin-us", type=int, default=0, help="how long both processes poll before they block")
    parser.add_argument("--cache", default="", help="folder of compiled code, kept from run to run")
    options = parser.parse_args()
    plan = Plan(
        prompt_lengths=tuple(options.lengths), new_tokens=NEW_TOKENS, max_context=max(options.lengths) + NEW_TOKENS,
        dtype=options.dtype, device=options.device, threads=8, compile_cache_dir=options.cache,
        spin_us=options.spin_us,
    )  # fmt: skip
    ttft_ms: dict[int, list[float]] = {length: [] for length in options.lengths}
    itl_ms: dict[int, list[float]] = {length: [] for length in options.lengths}
    gaps_ms: list[float] = []
    started_s = time.perf_counter()
    with approach_class(options.approach)() as approach:
        approach.load(options.model_dir, plan)
        ready_s = time.perf_counter() - started_s
        for request in range(WARM_REQUESTS + options.requests):
            for length in options.lengths:
                prompt = [(7 + 13 * i + 5 * i * i + request) % 250 + 3 for i in range(length)]
                sink = Stamps()
                sent_ns = time.perf_counter_ns()
                approach.generate(prompt, NEW_TOKENS, sink)
                if request >= WARM_REQUESTS:
                    ttft_ms[length].append((sink.at_ns[0] - sent_ns) / 1e6)
                    itl_ms[length].append((sink.at_ns[-1] - sink.at_ns[0]) / 1e6 / (NEW_TOKENS - 1))
                    gaps_ms += [(later - earlier) / 1e6 for earlier, later in pairwise(sink.at_ns)]
        facts = approach.facts()
    medians = {n: (statistics.median(ttft_ms[n]), statistics.median(itl_ms[n])) for n in options.lengths}
    columns = [f"{n} tokens: TTFT {ttft:.3f} ms, {itl:.4f} ms a token" for n, (ttft, itl) in medians.items()]
    percentiles = statistics.quantiles(gaps_ms, n=100)
    columns.append(f"gaps: median {percentiles[49]:.3f}, P99 {percentiles[98]:.3f}, largest {max(gaps_ms):.2f} ms")
    print(" | ".join([options.approach, *columns, f"ready {ready_s:.1f} s", f"ahead {facts.ahead}", facts.kernels]))


if __name__ == "__main__":
    main()
