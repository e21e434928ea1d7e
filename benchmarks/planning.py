"""How long Snakemake takes to plan a study of many runs: `python benchmarks/planning.py [RUNS]`.

Prints CPU and wall time of `snakemake --dry-run` for a study of one repeat and for one of about RUNS benchmark jobs
(1,000 if not given); nothing is measured, nothing is written. Compare the CPU time: the wall time depends on what else
runs.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPROACHES = ["baseline", "eager_loop", "cuda_graph", "cuda_graph_1p", "jit_only", "jit_cuda", "jit_cuda_1p"]
RUNS_PER_REPEAT = len(APPROACHES) + 2  # and the instrument: null, null_2p


def plan_seconds(repeats: int) -> tuple[float, float]:
    """CPU and wall seconds to plan a study of so many repeats that was never run."""
    config = {
        "study": f"planning-{repeats}",
        "approaches": APPROACHES,
        "experiments": [],
        "workload": {"repeats": repeats},
    }
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "all", "--nolock"]
    with tempfile.TemporaryDirectory(prefix="firsttoken-planning-") as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--configfile", str(file)], cwd=ROOT, check=True, capture_output=True)
        wall_s = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def main(runs: int) -> None:
    """Print a line for each study."""
    for repeats in (1, max(2, runs // RUNS_PER_REPEAT)):
        cpu_s, wall_s = plan_seconds(repeats)
        print(f"{repeats * RUNS_PER_REPEAT:6} benchmark jobs: {cpu_s:6.1f} s of CPU time, {wall_s:6.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
