"""Choosing the largest of a step's logits: with numpy, as `llama_cpp` does, and with llama.cpp's own greedy sampler.

    PYTHONPATH=scripts .venv-llama_cpp/bin/python benchmarks/llama_cpp_greedy.py ENGINE_DIR     (of a float32 study)

ENGINE_DIR: results/STUDY/engine/llama_cpp. Prints the median of each in microseconds; both choose the same token.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from firsttoken.external.llama_cpp.engine import find_gguf
from firsttoken.external.llama_cpp.library import library_path, open_library
from firsttoken.external.llama_cpp.runtime import Runtime
from firsttoken.plan import Plan

TIMES = 2000


def median_us(choose: Callable[[], int]) -> float:
    """The median time of a call."""
    times = []
    for _ in range(TIMES):
        begun_ns = perf_counter_ns()
        choose()
        times.append(perf_counter_ns() - begun_ns)
    return median(times) / 1e3


def main(engine_dir: str) -> None:
    """Measure and print."""
    plan = Plan(prompt_lengths=(4,), new_tokens=1, max_context=8, dtype="float32", device="cpu", engine_dir=engine_dir)
    library = open_library(library_path())
    runtime = Runtime(library, find_gguf(plan), plan)
    runtime.prefill([1, 2, 3, 4])
    chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
    library.llama_sampler_init_greedy.restype = library.llama_sampler_chain_init.restype
    library.llama_sampler_chain_add(chain, library.llama_sampler_init_greedy())

    def by_llama_cpp() -> int:
        return int(library.llama_sampler_sample(chain, runtime._context, -1))

    if by_llama_cpp() != runtime.sample():
        raise RuntimeError("the two chose different tokens")
    print(f"{len(runtime.logits())} logits: numpy {median_us(runtime.sample):.1f} us", end=", ")
    print(f"llama.cpp's sampler {median_us(by_llama_cpp):.1f} us")
    library.llama_sampler_free(chain)
    runtime.close()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    main(sys.argv[1])
