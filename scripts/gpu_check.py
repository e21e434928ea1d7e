"""Everything that needs a GPU, in one command: `make gpu-check`. Under eight minutes on one H200.

First the GPU tests (traps of capture and replay, equality in float16 and bfloat16), then config/studies/gpu-check.yaml
from end to end. Prints one table; leaves results/gpu-check/, which `make ship STUDY=gpu-check` makes ready to be
committed.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from firsttoken.measure.environment import package_versions, visible_gpu

ROOT = Path(__file__).resolve().parent.parent
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


def main() -> int:
    """Run both parts; the status is non-zero when either failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["tests", "study"], help="one part alone")
    options = parser.parse_args()
    gpu, driver, cuda = visible_gpu()
    if gpu is None:
        print("firsttoken: no CUDA device is visible here; this check needs one", file=sys.stderr)
        return 2
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    print(f"{gpu.name}, driver {driver}, CUDA {cuda}; {versions}", flush=True)
    failed = 0
    if options.only != "study":
        failed |= run_tests()
    if options.only != "tests":
        failed |= run_study()
    return failed


def run_tests() -> int:
    """pytest on tests/gpu; 1 when a test failed or none ran."""
    report = ROOT / "results" / "gpu-check" / "tests.xml"
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
    summary = ROOT / "results" / "gpu-check" / "tables" / "summary.csv"
    if summary.exists():
        with summary.open(encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                print(" | ".join(f"{name} {row.get(name, '')[:60]}" for name in COLUMNS))
    print(f"study gpu-check: status {status}, {time.monotonic() - started:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
