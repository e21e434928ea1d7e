"""Run a study as `make run` does: the pipeline, then its report, then the summary on the terminal.

Usage: python scripts/run.py [--config FILE] [--profile DIR] [Snakemake's own options]

The report is made also when a gate has failed, since then it is needed most; the exit status is the pipeline's.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import yaml

from firsttoken.study.parents import signal_on_parent_death

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "1", "--resources", "gpu=1"]


def main() -> int:
    """Parse the options, run, and give the exit status."""
    parser = argparse.ArgumentParser(description="Run a study, make its report, print its summary.")
    parser.add_argument("--config", type=Path, help="a file under config/studies/, laid over config/config.yaml")
    parser.add_argument("--report", type=Path, help="where the report goes; results/{study}/report.html if not given")
    options, rest = parser.parse_known_args()
    try:
        study = study_name(options.config)
    except ValueError as error:
        print(f"firsttoken: {error}", file=sys.stderr)
        return 1
    configfile = ["--configfile", str(options.config)] if options.config else []
    results = ROOT / "results" / study
    report = options.report or results / "report.html"
    unlock_after_a_crash()
    try:
        status = run([*SNAKEMAKE, *configfile, *rest])
        if (results / "tables" / "answer.txt").exists() and (status == 0 or report_is_old(report, results)):
            made = run([*SNAKEMAKE[:3], "evidence", *configfile, "--report", str(report), "--quiet", "all"])
            status = status or made
            print_summary(results, report)
    except KeyboardInterrupt:
        return 130
    return status


def study_name(config: Path | None) -> str:
    """The `study` key of the config that Snakemake will see. Raises ValueError that names a file that is no YAML mapping."""
    name = ""
    for path in [ROOT / "config" / "config.yaml", *([config] if config else [])]:
        if not path.is_file():
            raise ValueError(f"{path}: no such config file; see config/studies/")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise ValueError(f"{path}{where}: not valid YAML; {getattr(error, 'problem', error)}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path}: found {type(content).__name__}, must be keys and values at the top level")
        name = str(content.get("study", name))
    return name


def report_is_old(report: Path, results: Path) -> bool:
    """Whether the tables are newer than the report."""
    answer = results / "tables" / "answer.txt"
    return not report.exists() or report.stat().st_mtime < answer.stat().st_mtime


def run(command: list[str]) -> int:
    """Run in the project's folder and pass on how it ended.

    Ctrl-C reaches the child from the terminal; SIGTERM is passed on as Ctrl-C to it and its jobs, since Snakemake would finish
    the running jobs first. A child never outlives us, however we end.
    """
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=partial(signal_on_parent_death, signal.SIGINT))
    signal.signal(signal.SIGTERM, lambda *_: interrupt(process.pid))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def interrupt(pid: int) -> None:
    """Ctrl-C for a process and everything below it."""
    process = psutil.Process(pid)
    for member in [*process.children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGINT)


def unlock_after_a_crash() -> None:
    """Remove Snakemake's lock where no Snakemake works in this folder any more: after `kill -9` or a power cut it stays."""
    if not any((ROOT / ".snakemake" / "locks").glob("*")):
        return
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = " ".join(process.info["cmdline"] or [])
            if "snakemake" in words and process.pid != os.getpid() and Path(process.cwd()) == ROOT:
                return
    print("firsttoken: removing the lock of an interrupted run", file=sys.stderr)
    subprocess.run([*SNAKEMAKE[:3], "--unlock", "--quiet", "all"], cwd=ROOT, check=True)


def print_summary(results: Path, report: Path) -> None:
    """The table and the answer, as the pipeline wrote them."""
    print()
    print((results / "tables" / "answer.txt").read_text(encoding="utf-8"))
    print(f"Report: {report}")


if __name__ == "__main__":
    sys.exit(main())
