"""Everything that needs a GPU, in one command: `make gpu-check`. Meant to take under eight minutes on one H200.

First the GPU tests (traps of capture and replay, equality in float16 and bfloat16); beside those that do not watch the
device's memory, weights and float32 reference are made for what follows. Then config/studies/gpu-check.yaml. Then the
targets: figures of that study, and token gaps of `jit_cuda` while graphs are captured beside. Last the committed
baseline, where it was measured on the same GPU model. A missed target or a slower figure is told, and fails nothing.
Leaves results/gpu-check/, which `make ship STUDY=gpu-check` makes ready to be committed.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pandas as pd
import yaml

from firsttoken.analysis.quantiles import smallest_pooled_n
from firsttoken.approaches.base import approach_class
from firsttoken.hardware import device_lock, driver_versions, visible_gpu
from firsttoken.measure.capture_beside import BURST, ROUNDS, GapRow, measure_capture_beside
from firsttoken.measure.environment import package_versions
from firsttoken.plan import Plan
from firsttoken.study.config import Study
from gpu_baseline import compare_with_baseline

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "gpu-check"
BASELINES = sorted((ROOT / "results" / "reference").glob("gpu-check*"))  # of one GPU model each
CONFIG = "config/studies/gpu-check.yaml"
SNAKEMAKE = ("--cores", "1", "--resources", "gpu=1", "--configfile", CONFIG)  # behind the targets
# Figures, pages and provenance, when nothing is measured any more: many small jobs at once.
FINISH = ("evidence", "--cores", "8", *SNAKEMAKE[2:])
PREPARED = "results/gpu-check/reference.safetensors"
TABLES = ("config.yaml", "environment.json", "tables/summary.csv")
GATES = ("gates/floors", "gates/equality", "gates/status")
MEASURED = tuple(f"results/gpu-check/{name}" for name in (*TABLES, *GATES))
# Files of tests/gpu that may run at the same time, and those that time the device or watch what is free on it.
TOGETHER = (
    ("test_compiled_graph.py", "test_decode.py", "test_llama_cpp.py", "test_prefill.py"),
    ("test_approaches.py", "test_equality.py", "test_families.py", "test_hardware.py", "test_sampling.py"),
)
ALONE = ("test_graph_memory.py", "test_ceilings.py", "test_launches.py", "test_several_gpus.py")
COLUMNS = (
    "approach",
    "status",
    "equivalence",
    "ttft_mean_ms",
    "ttft_p99_ms",
    "itl_request_mean_ms",
    "speedup_ttft",
    "reason",
)
CAPTURED = "jit_cuda"  # the approach whose gaps are measured with captures beside
STEADY_PROMPT = 20  # tokens
PARTS = ("tests", "study", "targets")
say = partial(print, flush=True)


def main() -> int:
    """Run the parts; the status is non-zero when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part alone; the targets need the study's results")
    only = parser.parse_args().only
    gpu, (driver, cuda) = visible_gpu(), driver_versions()
    if gpu is None:
        print("firsttoken: no CUDA device is visible here; this check needs one", file=sys.stderr)
        return 2
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    print(f"{gpu.name}, driver {driver}, CUDA {cuda}; {versions}", flush=True)
    begun = time.monotonic()
    everything = only is None
    run: dict[str, Callable[[], int]] = {
        "tests": lambda: run_tests(everything),
        "study": run_study,
        "targets": lambda: run_targets(gpu.uuid, gpu.name),
    }
    failed = [part for part in PARTS if only in (None, part) and run[part]() != 0]
    print(f"gpu-check: {', '.join(failed) + ' failed' if failed else 'passed'}, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


def run_tests(prepare: bool) -> int:
    """pytest on tests/gpu; 1 when a test failed or none ran. With `prepare` the study's input is made beside."""
    started = time.monotonic()
    folder = RESULTS / ".cache"
    folder.mkdir(parents=True, exist_ok=True)
    beside = []
    if prepare:
        output = (folder / "prepare.log").open("w")
        command = [sys.executable, "-m", "snakemake", PREPARED, *SNAKEMAKE]
        beside.append(subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT))
    groups = [start_tests(files, folder / f"tests-{number}") for number, files in enumerate(TOGETHER)]
    failed = [end_tests(*group) for group in groups]
    for process in beside:
        if process.wait() != 0:
            print(f"the study's input was not made; see {folder}/prepare.log", flush=True)
    failed.append(end_tests(*start_tests(ALONE, folder / f"tests-{len(TOGETHER)}")))
    print(f"GPU tests: {time.monotonic() - started:.0f} s", flush=True)
    return int(any(failed))


def start_tests(files: Sequence[str], place: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """pytest in the background, its output in `place`.log and its results in `place`.xml."""
    paths = [f"tests/gpu/{name}" for name in files]
    options = ["-q", "-m", "gpu", "--durations=5", f"--junitxml={place}.xml", "-p", "no:cacheprovider"]
    with place.with_suffix(".log").open("w") as output:
        command = [sys.executable, "-m", "pytest", *paths, *options]
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT), place


def end_tests(process: subprocess.Popen[bytes], place: Path) -> bool:
    """Wait for a group, print what it said; whether a test failed or none ran."""
    status = process.wait()
    print(place.with_suffix(".log").read_text(errors="replace"), flush=True)
    if not place.with_suffix(".xml").exists():
        return True
    suite = next(ElementTree.parse(place.with_suffix(".xml")).getroot().iter("testsuite")).attrib
    return status != 0 or int(suite["tests"]) == int(suite["skipped"])


def run_study() -> int:
    """The short study; prints its summary table. The status is that of measurements, tables and gates, or of the
    rest."""
    started = time.monotonic()
    status = subprocess.run([sys.executable, "-m", "snakemake", *MEASURED, *SNAKEMAKE], cwd=ROOT).returncode
    if (RESULTS / "tables" / "summary.csv").exists():
        for row in read_rows("summary"):
            print(" | ".join(f"{name} {row[name][:60]}" for name in COLUMNS))
    print(f"study gpu-check: status {status}, {time.monotonic() - started:.0f} s", flush=True)
    if status == 0:
        status = subprocess.run([sys.executable, "-m", "snakemake", *FINISH], cwd=ROOT).returncode
        print(f"figures and provenance: status {status}, {time.monotonic() - started:.0f} s", flush=True)
    return status


# ---------------------------------------------------------------- targets


@dataclass(frozen=True)
class Target:
    """A figure and its bound; `found` None: it was not measured."""

    what: str
    found: float | None
    bound: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        met = self.found >= self.bound if self.at_least else self.found <= self.bound
        return "met" if met else "missed"


def run_targets(gpu_uuid: str, gpu_name: str) -> int:
    """Measure the gaps, print all targets, write both as CSV; 1 where the study has not left what is needed."""
    config, table = RESULTS / "config.yaml", RESULTS / "tables" / "latency_by_length.csv"
    missing = [str(path) for path in (config, table) if not path.exists()]
    if missing:
        print(f"firsttoken: {missing[0]}: no such file; run the study first: scripts/gpu_check.py --only study")
        return 1
    started = time.monotonic()
    study = Study(config=yaml.safe_load(config.read_text(encoding="utf-8")), device="cuda")
    plan = msgspec.convert(study.plan(compile_cache_dir=str(RESULTS / ".cache" / "gaps")), Plan)
    prompts = [text(length) for length in (STEADY_PROMPT, *(30 + 6 * i for i in range(BURST * (2 * ROUNDS + 1))))]
    with device_lock(gpu_uuid):
        gaps = measure_capture_beside(
            approach_class(CAPTURED), ROOT / "results" / "models" / study.model_id, plan, prompts, say
        )
    targets = targets_of(read_rows("latency_by_length"), gaps)
    for row in gaps:
        beside = f"{row.captures} captures beside, {row.capture_ms:.0f} ms each alone" if row.beside else "alone"
        print(
            f"{CAPTURED}, {row.load}, {beside}: {row.gaps} gaps, median {row.median_ms:.3f} ms, P99 {row.p99_ms:.3f} "
            f"ms, P99/median {row.p99_ms / row.median_ms:.3f}, largest {row.max_ms:.3f} ms"
        )
    print(f"targets were set for an NVIDIA H200; this is {gpu_name}")
    for target in targets:
        found = "-" if target.found is None else f"{target.found:.3f}"
        print(f"{target.what}: {found}, target {'>=' if target.at_least else '<='} {target.bound}: {target.verdict}")
    pd.DataFrame([msgspec.to_builtins(row) for row in gaps]).to_csv(RESULTS / "capture_beside.csv", index=False)
    verdicts = [vars(target) | {"verdict": target.verdict} for target in targets]
    pd.DataFrame(verdicts).to_csv(RESULTS / "targets.csv", index=False)
    for line in compare_with_baseline(RESULTS, BASELINES):
        print(line)
    print(f"targets: {time.monotonic() - started:.0f} s", flush=True)
    return 0


def targets_of(latencies: Sequence[dict[str, str]], gaps: Sequence[GapRow]) -> list[Target]:
    """Each target with what was found; `latencies` are the rows of latency_by_length.csv."""

    def figure(approach: str, length: int, column: str) -> float | None:
        for row in latencies:
            if (row["approach"], row["prompt_length"]) == (approach, str(length)) and row[column]:
                return float(row[column])
        return None

    long_ms, floor_ms = (figure("compiled_graph", 500, name) for name in ("ttft_median_ms", "floor_ttft_ms"))
    token_ms = figure("compiled_graph", 250, "itl_request_mean_median_ms")
    short_ms = figure("compiled_graph", 10, "ttft_median_ms")
    over_floor = long_ms / floor_ms if long_ms and floor_ms else None
    faster = figure("jit_cuda", 10, "speedup_ttft")
    return [
        Target("compiled_graph, ms a token at 256 tokens of context (median)", token_ms, 3.5),
        Target("compiled_graph, TTFT at 10 prompt tokens, ms (median)", short_ms, 4.5),
        Target("compiled_graph, TTFT at 500 prompt tokens over its floor (median)", over_floor, 1.3),
        Target("jit_cuda against baseline, TTFT at 10 prompt tokens (mean)", faster, 4.48, at_least=True),
        *(
            Target(f"{CAPTURED}, P99/median of gaps, {row.load} beside captures", p99_over_median(row), 1.1)
            for row in gaps
            if row.beside
        ),
    ]


def read_rows(table: str) -> list[dict[str, str]]:
    with (RESULTS / "tables" / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def p99_over_median(row: GapRow) -> float | None:
    """None without captures beside, or for fewer gaps than a P99 takes."""
    return row.p99_ms / row.median_ms if row.captures and row.gaps >= smallest_pooled_n(0.99) else None


def text(length: int) -> list[int]:
    """Token ids; which ones they are does not matter for a time."""
    return [(7 + 13 * i + 5 * i * i) % 250 for i in range(length)]


if __name__ == "__main__":
    sys.exit(main())
