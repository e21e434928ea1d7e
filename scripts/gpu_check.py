"""Everything that needs a GPU, in one command: `make gpu-check`. Under eight minutes on one H200.

First the GPU tests (traps of capture and replay, equality in float16 and bfloat16), then config/studies/gpu-check.yaml
from end to end, then the targets: figures of that study, and token gaps of `jit_cuda` while graphs are captured beside.
A target that is missed is told, and fails nothing. Leaves results/gpu-check/, which `make ship STUDY=gpu-check` makes
ready to be committed.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from firsttoken.approaches.base import approach_class
from firsttoken.measure.capture_beside import BURST, ROUNDS, GapRow, measure_capture_beside
from firsttoken.measure.device_lock import device_lock
from firsttoken.measure.environment import package_versions, visible_gpu
from firsttoken.records import Plan
from firsttoken.study.config import Study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "gpu-check"
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


def main() -> int:
    """Run the parts; the status is non-zero when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part alone; the targets need the study's results")
    only = parser.parse_args().only
    gpu, driver, cuda = visible_gpu()
    if gpu is None:
        print("firsttoken: no CUDA device is visible here; this check needs one", file=sys.stderr)
        return 2
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    print(f"{gpu.name}, driver {driver}, CUDA {cuda}; {versions}", flush=True)
    begun = time.monotonic()
    run = {"tests": run_tests, "study": run_study, "targets": lambda: run_targets(gpu.uuid)}
    failed = [part for part in PARTS if only in (None, part) and run[part]() != 0]
    print(f"gpu-check: {', '.join(failed) + ' failed' if failed else 'passed'}, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


def run_tests() -> int:
    """pytest on tests/gpu; 1 when a test failed or none ran."""
    report = RESULTS / "tests.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "tests/gpu",
        f"--junitxml={report}",
        "-p",
        "no:cacheprovider",
    ]
    status = subprocess.run(command, cwd=ROOT).returncode
    suite = next(ElementTree.parse(report).getroot().iter("testsuite")).attrib
    ran = int(suite["tests"]) - int(suite["skipped"])
    seconds = time.monotonic() - started
    print(f"GPU tests: {ran} ran, {suite['failures']} failed, {suite['errors']} errors, {seconds:.0f} s", flush=True)
    return 1 if status != 0 or ran == 0 else 0


def run_study() -> int:
    """The short study; prints its summary table."""
    started = time.monotonic()
    command = [sys.executable, "scripts/run.py", "--config", "config/studies/gpu-check.yaml"]
    status = subprocess.run(command, cwd=ROOT).returncode
    summary = RESULTS / "tables" / "summary.csv"
    if summary.exists():
        with summary.open(encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                print(" | ".join(f"{name} {row.get(name, '')[:60]}" for name in COLUMNS))
    print(f"study gpu-check: status {status}, {time.monotonic() - started:.0f} s", flush=True)
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


def run_targets(gpu_uuid: str) -> int:
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
    with table.open(encoding="utf-8") as stream:
        targets = targets_of(list(csv.DictReader(stream)), gaps)
    for row in gaps:
        beside = f"{row.captures} captures beside, {row.capture_ms:.0f} ms each alone" if row.beside else "alone"
        print(
            f"{CAPTURED}, {row.load}, {beside}: {row.gaps} gaps, median {row.median_ms:.3f} ms, P99 {row.p99_ms:.3f} "
            f"ms, P99/median {row.p99_ms / row.median_ms:.3f}, largest {row.max_ms:.3f} ms"
        )
    for target in targets:
        found = "-" if target.found is None else f"{target.found:.3f}"
        print(f"{target.what}: {found}, target {'>=' if target.at_least else '<='} {target.bound}: {target.verdict}")
    write_csv(RESULTS / "capture_beside.csv", [msgspec.to_builtins(row) for row in gaps])
    write_csv(RESULTS / "targets.csv", [vars(target) | {"verdict": target.verdict} for target in targets])
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
            Target(f"{CAPTURED}, P99/median of gaps, {row.load} beside captures", row.p99_ms / row.median_ms, 1.1)
            for row in gaps
            if row.beside
        ),
    ]


def text(length: int) -> list[int]:
    """Token ids; which ones they are does not matter for a time."""
    return [(7 + 13 * i + 5 * i * i) % 250 for i in range(length)]


def say(line: str) -> None:
    print(line, flush=True)


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
