"""Run a study as `make run` does: the pipeline, then its report, then the summary on the terminal.

Usage: python scripts/run.py [--config FILE] [--profile DIR] [Snakemake's own options]

The report is made also when a gate has failed, since then it is needed most; the exit status is the pipeline's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil
import yaml

from firsttoken.files import sha256_file, storage_problem, write_text
from firsttoken.private_folder import PrivateFolder
from firsttoken.process import signal_on_parent_death
from firsttoken.study.config import finished_studies
from firsttoken.study.provenance import MANIFEST, SHIPPED_MANIFEST, Provenance, read_provenance
from firsttoken.study.schema import load_schema, one_line, schema_problem
from firsttoken.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parent.parent
# Stages that make no table, figure or page; and rules of the others whose outputs ship.
MEASURING = ("common", "model", "measure")
MADE_BEFORE_SHIPPING = ("pool_runs", "compare_with_reference", "record_config", "write_provenance")
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "1", "--resources", "gpu=1"]


def main() -> int:
    """Parse the options, run, and give the exit status."""
    parser = argparse.ArgumentParser(description="Run a study, make its report, print its summary.")
    parser.add_argument("--config", type=Path, help="a file under config/studies/, laid over config/config.yaml")
    parser.add_argument("--report", type=Path, help="where the report goes; results/{study}/report.html if not given")
    parser.add_argument("--report-only", type=Path, metavar="FOLDER", help="a finished study: only make its report")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two finished studies: judge B against A")
    parser.add_argument("--combine", nargs="+", metavar="STUDY", help="finished studies of one config, one a host")
    options, rest = parser.parse_known_args()
    try:
        if options.report_only:
            return report_of_finished(options.report_only, options.report)
        if options.compare:
            a, b = options.compare
            return compare(a, b, rest)
        if options.combine:
            return combine(options.combine, rest)
        return run_study(options.config, options.report, rest)
    except ValueError as error:
        print(f"firsttoken: {one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("firsttoken: interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT


def run_study(config: Path | None, report: Path | None, rest: list[str]) -> int:
    """The pipeline, its report, its summary."""
    results = ROOT / "results" / study_name(config)
    report = report or results / "report.html"
    configfile = ["--configfile", str(config)] if config else []
    written = [results, ROOT / "results" / "models", ROOT / ".snakemake", Path(tempfile.gettempdir())]
    if problem := storage_problem(written):
        raise ValueError(problem)
    status = run([*SNAKEMAKE[:3], *rest, *SNAKEMAKE[3:], *configfile])  # targets may be among the rest
    if status and (problem := storage_problem(written)):
        raise ValueError(problem)
    if (results / "tables" / "answer.txt").exists() and (status == 0 or report_is_old(report, results)):
        made = run([*SNAKEMAKE[:3], "evidence", *configfile, "--report", str(report), "--quiet", "all"])
        print_summary(results, report)
        status = status or made
    return status


def report_of_finished(folder: Path, report: Path | None) -> int:
    """The report of a study that is complete on disk, or of a shipped one, whose tables, figures and pages are made
    first. Nothing is measured again, and no weights are needed.

    The project is mirrored by links in a temporary folder in which the study lies where it was made, so that Snakemake
    finds each file by its own name. What is made of a shipped study lies there too; the report alone is kept.
    """
    folder = folder if (folder / "provenance.json").exists() else ROOT / "results" / folder
    if not (folder / "provenance.json").exists():
        raise ValueError(f"{folder}: no finished study (it has no provenance.json)")
    provenance = read_provenance(folder / "provenance.json")
    config = read_yaml(folder / "config.yaml")
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    gpu = environment["gpu"]["name"] if environment["gpu"] else ""
    config |= {"hardware": {"gpu": gpu}, "device": environment["device"], "on_unavailable": "record"}
    config |= {"compare": [], "claims": []}  # the other study need not be here; claims are judged as of today
    report = (report or folder / "report.html").absolute()
    with PrivateFolder("report") as mirror:
        for name in ("Snakefile", "rules", "scripts", "config", "report", "envs", "profiles"):
            (Path(mirror) / name).symlink_to(ROOT / name)
        results = Path(mirror) / "results" / checked_name(config)
        shipped = Path(mirror) / "shipped.yaml"
        shipped.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [*SNAKEMAKE[:3], "evidence", "--configfile", str(shipped)]
        status = 0
        if (folder / "tables" / "answer.txt").exists():
            results.parent.mkdir()
            results.symlink_to(folder.absolute())
        else:
            link_data(folder.absolute(), results, provenance)
            making = ["--cores", str(os.cpu_count() or 1), "--rerun-triggers", "mtime", "--quiet", "rules"]
            status = run([*command, *making, "--allowed-rules", *analysis_rules()], folder=Path(mirror))
        status = status or run([*command, "--report", str(report), "--quiet", "all"], folder=Path(mirror))
        if status == 0:
            print_summary(results, report)
    return status


def link_data(folder: Path, results: Path, provenance: Provenance) -> None:
    """Links to a shipped study's files, so that what is made of them does not lie among them; the model's manifest
    where it was."""
    for path in folder.rglob("*"):
        link = results / path.relative_to(folder)
        if path.is_file() and path.name != SHIPPED_MANIFEST:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    for output in (path for job in provenance.jobs for path in job.outputs if MANIFEST.match(path)):
        manifest = results.parents[1] / output
        manifest.parent.mkdir(exist_ok=True)
        manifest.symlink_to(folder / SHIPPED_MANIFEST)


def analysis_rules() -> list[str]:
    """The rules that make tables, figures and pages of a shipped study's files, which they leave as they are."""
    names = []
    for path in sorted((ROOT / "rules").glob("*.smk")):
        if path.stem not in MEASURING:
            names += re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for name in names if name not in MADE_BEFORE_SHIPPING]


def compare(a: str, b: str, rest: list[str]) -> int:
    """Compare two finished studies; the status is non-zero on a regression.

    Raises ValueError where one of them is not there.
    """
    check_finished([("compare: A", a), ("compare: B", b)])
    folder = f"results/compare/{a}_vs_{b}"
    rules = ["--allowed-rules", "compare_studies", "render_comparison"]
    if status := run([*SNAKEMAKE[:3], f"{folder}/comparison.html", *SNAKEMAKE[3:], *rules, *rest]):
        return status
    found = json.loads((ROOT / folder / "comparison.json").read_text(encoding="utf-8"))
    print(f"{b} compared with {a}: {'; '.join([found['verdict'], *found['reasons'], *found['regressions']])}")
    print(f"Comparison: {folder}/comparison.html, to paste: {folder}/comparison.md")
    return int(found["verdict"] in ("regression", "not comparable"))


def combine(studies: list[str], rest: list[str]) -> int:
    """Combine finished studies of one config, each from another host. Raises ValueError where one is not there."""
    studies = sorted(studies)
    check_finished([("combine: STUDIES", study) for study in studies])
    name = "+".join(studies).replace("/", "-")
    if len(name) > 100:  # a file name has at most 255 bytes
        name = f"{name[:80]}+{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    folder = f"results/combine/{name}"
    write_text(ROOT / folder / "studies.txt", "\n".join(studies) + "\n")
    status = run([*SNAKEMAKE, "--allowed-rules", "combine_studies", *rest, "--", f"{folder}/combined.html"])
    if status == 0:
        print((ROOT / folder / "combined.txt").read_text(encoding="utf-8"))
        print(f"Combination: {folder}/combined.html")
    return status


def check_finished(asked: list[tuple[str, str]]) -> None:
    """Of pairs of an argument's name and a study: raise ValueError that names the study that is not there."""
    finished = finished_studies(ROOT / "results")
    for argument, study in asked:
        if study not in finished:
            known = ", ".join(finished) or "none"
            raise ValueError(f"{argument}={study!r} is no finished study; found in results/: {known}")


def study_name(config: Path | None) -> str:
    """The `study` key of the config that Snakemake will see. Raises ValueError for a file that is no YAML mapping."""
    merged: dict[str, Any] = {}
    for path in [ROOT / "config" / "config.yaml", *([config] if config else [])]:
        merged |= read_yaml(os.path.relpath(path))
    return checked_name(merged)


def checked_name(config: dict[str, Any]) -> str:
    """The `study` key. Raises ValueError where it would name a folder outside results/, or another's."""
    rule = load_schema(ROOT / "config" / "config.schema.yaml")["properties"]["study"]
    if problem := schema_problem(config, {"required": ["study"], "properties": {"study": rule}}):
        raise ValueError(problem)
    return str(config["study"])


def report_is_old(report: Path, results: Path) -> bool:
    """Whether the tables are newer than the report."""
    answer = results / "tables" / "answer.txt"
    return not report.exists() or report.stat().st_mtime < answer.stat().st_mtime


def run(command: list[str], folder: Path = ROOT) -> int:
    """Run in the project's folder, or in `folder`, and give the exit status. Raises KeyboardInterrupt.

    Ctrl-C reaches the child from the terminal; SIGTERM is passed on as Ctrl-C to it and its jobs, since Snakemake would
    finish the running jobs first. Where we ignore Ctrl-C (a script's background job), the child has a session of its
    own, in which nothing ignores it. A child never outlives us, however we end: its jobs end with it.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal_on_parent_death(signal.SIGKILL)

    process = subprocess.Popen(command, cwd=folder, preexec_fn=prepare, start_new_session=ignored)
    before = signal.signal(signal.SIGTERM, lambda *_: interrupt(process.pid))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt(pid: int) -> NoReturn:
    """Ctrl-C for a process, everything below it, and this process."""
    process = psutil.Process(pid)
    for member in [*process.children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGINT)
    raise KeyboardInterrupt


def print_summary(results: Path, report: Path) -> None:
    """The table and the answer, as the pipeline wrote them, and what an edit of the provenance would change."""
    print()
    print((results / "tables" / "answer.txt").read_text(encoding="utf-8"))
    print(f"Report: {report}")
    if (results / "provenance.json").exists():
        print(f"SHA-256 of provenance.json: {sha256_file(results / 'provenance.json')}")


if __name__ == "__main__":
    sys.exit(main())
