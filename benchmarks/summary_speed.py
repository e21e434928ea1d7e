"""Seconds to summarise a million samples on one core: python benchmarks/summary_speed.py [samples]

Makes a study of six approaches over ten prompt lengths and ten processes, and times what `summarise_latency` does with
the samples: reading Parquet, metrics, one statistic a process, intervals and tables; the checks of the CSVs too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from firsttoken.analysis.processes import ProcessTable  # noqa: E402
from firsttoken.analysis.requests import process_statistics, read_requests  # noqa: E402
from fixtures_samples import NEW_TOKENS, Known, analyse, make_study  # noqa: E402

APPROACHES = ("baseline", "cuda_graph", "jit_only", "jit_cuda", "tensorrt_llm", "compiled_graph")
LENGTHS = (10, 50, 100, 150, 200, 250, 300, 350, 400, 500)
PROCESSES = 10


def main(samples: int) -> None:
    """Print the seconds of each part."""
    cells = len(APPROACHES) * len(LENGTHS) * PROCESSES
    requests = -(-samples // (cells * NEW_TOKENS))
    known = {name: Known(20.0 + 5 * place) for place, name in enumerate(APPROACHES)}
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), known, LENGTHS, requests, PROCESSES)
        started = time.process_time()
        analyse(study)
        whole = time.process_time() - started
        started = time.process_time()
        found = read_requests(study.samples)
        table = process_statistics(found)
        statistics = time.process_time() - started
        started = time.process_time()
        processes = ProcessTable(table)
        for name in APPROACHES:
            processes.estimate(name, "ttft", "p99", processes.lengths)
        intervals = time.process_time() - started
        n = len(pd.read_parquet(study.samples, columns=["token_index"]))
    print(f"{n:,} samples, {cells} processes x lengths, {np.__name__} {np.__version__}, pandas {pd.__version__}")
    print(f"read and reduce to one statistic a process: {statistics:.2f} s of processor time")
    print(f"intervals of one statistic for each approach: {intervals:.3f} s")
    print(f"pool, compare with the reference, all tables written and checked: {whole:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
