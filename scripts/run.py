"""Run a study as `make run` does: the pipeline, then its report, then the summary on the terminal.

Usage: python scripts/run.py [--config FILE] [--profile DIR] [Snakemake's own options]

The report is made also when a gate has failed, since then it is needed most; the exit status is the pipeline's.
Snakemake's own output goes into its log; VERBOSE=1 in the environment shows it.
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
from typing import IO, Any, NoReturn

try:  # they take seconds
    import psutil
    import yaml

    from firsttoken.command_line import end_with
    from firsttoken.files import atomic_path, read_json, sha256_file, storage_problem, write_text
    from firsttoken.hardware import visible_gpus
    from firsttoken.private_folder import PrivateFolder
    from firsttoken.process import signal_on_parent_death
    from firsttoken.results import Environment
    from firsttoken.study.config import find_study
    from firsttoken.study.config_file import find_config, require_name
    from firsttoken.study.provenance import MANIFEST, SHIPPED_MANIFEST, Provenance, read_provenance
    from firsttoken.study.schema import load_schema, one_line, schema_problem
    from firsttoken.yaml_files import read_yaml
    from snakemake_logger_plugin_firsttoken import Outcome
except KeyboardInterrupt:
    sys.exit(130)

ROOT = Path(__file__).resolve().parent.parent
# Stages that make no table, figure or page; and rules of the others whose outputs ship.
MEASURING = ("common", "model", "measure")
MADE_BEFORE_SHIPPING = ("pool_runs", "compare_with_reference", "record_config", "write_provenance")
ELSEWHERE = ("--configfile", "--configfiles", "--directory", "-d", "--snakefile", "-s")  # Snakemake's options
SNAKEMAKE = [sys.executable, str(ROOT / "scripts" / "run_snakemake.py")]


def main() -> int:
    """Parse the options, run, and give the exit status."""
    description = "Run a study, make its report, print its summary. Other options are Snakemake's."
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--config", help="a file, or the name of one in config/studies/; laid over config/config.yaml")
    parser.add_argument("--report", type=Path, help="where the report goes; results/{study}/report.html if not given")
    parser.add_argument("--summary", metavar="STUDY", help="a finished study: only print its summary")
    parser.add_argument("--format", choices=("md", "json"), default="", help="of the summary: to paste, to read in")
    parser.add_argument("--report-only", metavar="STUDY", help="a finished study: only make its report")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two finished studies: judge B against A")
    parser.add_argument("--combine", nargs="+", metavar="STUDY", help="finished studies of one config, one a host")
    parser.add_argument("--gpus", default="1", help="measure on so many GPUs at once, each process on one")
    options, rest = parser.parse_known_args()
    try:
        if options.summary is not None:
            return summary(find_study(options.summary, ROOT / "results"), options.format)
        if options.report_only is not None:
            return report_of_finished(find_study(options.report_only, ROOT / "results"), options.report)
        if options.compare:
            a, b = options.compare
            return compare(a, b, rest)
        if options.combine:
            return combine(options.combine, rest)
        refuse_another_study(rest)
        config = find_config(options.config, ROOT) if options.config else None
        return run_study(config, options.report, rest, options.gpus)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"firsttoken: {one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("firsttoken: interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT


def slots(gpus: str = "1") -> list[str]:
    """Snakemake's options for so many jobs at once, each with a GPU. Raises ValueError where there are fewer."""
    if gpus != "1":
        names = [gpu.name for gpu in visible_gpus()]
        if not (gpus.isdecimal() and 1 <= int(gpus) <= len(names)):
            raise ValueError(f"GPUS={gpus}: CUDA sees {len(names)} GPUs here; give no more, or leave GPUS out")
        if len(used := set(names[: int(gpus)])) > 1:
            raise ValueError(f"GPUS={gpus}: these are of several models ({', '.join(sorted(used))}); use those of one")
    return ["--cores", gpus, "--resources", f"gpu={gpus}"]


def refuse_another_study(rest: list[str]) -> None:
    """Raise ValueError where Snakemake's own options would run another study than the one that is reported."""
    if elsewhere := [word for word in rest if word.partition("=")[0] in ELSEWHERE]:
        raise ValueError(f"ARGS: found {elsewhere[0]}, which runs another study; give CONFIG=FILE")


def run_study(config: Path | None, report: Path | None, rest: list[str], gpus: str = "1") -> int:
    """The pipeline on so many GPUs at once, its report, its summary."""
    results = ROOT / "results" / study_name(config)
    report = report or results / "report.html"
    configfile = ["--configfile", str(config)] if config else []
    written = [results, ROOT / "results" / "models", ROOT / ".snakemake", Path(tempfile.gettempdir())]
    if problem := storage_problem(written):
        raise ValueError(problem)
    status, outcome = pipeline([*rest, *slots(gpus), *configfile])  # targets may be among the rest
    if status and (problem := storage_problem(written)):
        raise ValueError(problem)
    finished = (results / "tables" / "answer.txt").exists()  # a target may be a part of the study
    if finished and (outcome.complete or outcome.gates_failed):
        print("Making the report", file=sys.stderr)
        made = make_report(["evidence", *configfile], report)
        print_summary(results, None if made else report)
        status = status or made
    tell_failures(status, outcome)
    return status


def report_of_finished(folder: Path, report: Path | None) -> int:
    """The report of a study that is complete on disk, or of a shipped one, whose tables, figures and pages are made
    first. Nothing is measured again, and no weights are needed.

    The project is mirrored by links in a temporary folder in which the study lies where it was made, so that Snakemake
    finds each file by its own name. What is made of a shipped study lies there too; the report alone is kept.
    """
    provenance = read_provenance(folder / "provenance.json")
    config = read_yaml(folder / "config.yaml")
    machine = read_json(folder / "environment.json", Environment)
    gpu = machine.gpu.name if machine.gpu else ""
    config |= {"hardware": {"gpu": gpu}, "device": machine.device, "on_unavailable": "record"}
    config["workload"]["prompts"] = ""  # they need not be here either
    config |= {"compare": [], "claims": []}  # the other study need not be here; claims are judged as of today
    report = (report or folder / "report.html").absolute()
    with PrivateFolder("report") as mirror:
        for name in ("Snakefile", "rules", "scripts", "config", "report", "envs", "profiles"):
            (Path(mirror) / name).symlink_to(ROOT / name)
        results = Path(mirror) / "results" / checked_name(config)
        shipped = Path(mirror) / "shipped.yaml"
        shipped.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = ["evidence", "--configfile", str(shipped)]
        status = 0
        if (folder / "tables" / "answer.txt").exists():
            results.parent.mkdir()
            results.symlink_to(folder.absolute())
        else:
            link_data(folder.absolute(), results, provenance)
            making = ["--cores", str(os.cpu_count() or 1), "--rerun-triggers", "mtime"]
            status, outcome = pipeline([*command, *making, "--allowed-rules", *analysis_rules()], folder=Path(mirror))
            tell_failures(status, outcome)
        status = status or make_report(command, report, Path(mirror))
        if status == 0:
            print_summary(results, report)
    return status


def make_report(command: list[str], report: Path, folder: Path = ROOT) -> int:
    """Snakemake's report, which replaces an earlier one when it is whole; one line and status 1 where it fails."""
    try:
        with tempfile.TemporaryFile() as said, atomic_path(report) as temporary:
            if status := run([*SNAKEMAKE, *command, "--report", str(temporary)], folder, said):
                said.seek(0)
                lines = said.read().decode(errors="replace").split("\n")
                raise OSError(next((line for line in reversed(lines) if line.strip()), f"status {status}"))
    except OSError as error:
        print(f"firsttoken: the report {report} could not be made: {one_line(str(error))}", file=sys.stderr)
        return 1
    return 0


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
    a, b = study_named(a, "compare: A"), study_named(b, "compare: B")
    folder = f"results/compare/{a}_vs_{b}"
    rules = ["--allowed-rules", "compare_studies", "render_comparison"]
    status, outcome = pipeline([f"{folder}/comparison.html", *slots(), *rules, *rest])
    tell_failures(status, outcome)
    if status or not (ROOT / folder / "comparison.json").exists():  # a dry run makes none
        return status
    found = json.loads((ROOT / folder / "comparison.json").read_text(encoding="utf-8"))
    print(f"{b} compared with {a}: {'; '.join([found['verdict'], *found['reasons'], *found['regressions']])}")
    print(f"Comparison: {folder}/comparison.html, to paste: {folder}/comparison.md")
    return int(found["verdict"] in ("regression", "not comparable"))


def combine(studies: list[str], rest: list[str]) -> int:
    """Combine finished studies of one config, each from another host. Raises ValueError where one is not there."""
    studies = sorted(study_named(study, "combine: STUDIES") for study in studies)
    name = "+".join(studies).replace("/", "-")
    if len(name) > 100:  # a file name has at most 255 bytes
        name = f"{name[:80]}+{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    folder = f"results/combine/{name}"
    write_text(ROOT / folder / "studies.txt", "\n".join(studies) + "\n")
    combining = [*slots(), "--allowed-rules", "combine_studies", *rest, "--", f"{folder}/combined.html"]
    status, outcome = pipeline(combining)
    tell_failures(status, outcome)
    if status == 0 and (ROOT / folder / "combined.txt").exists():
        print((ROOT / folder / "combined.txt").read_text(encoding="utf-8"))
        print(f"Combination: {folder}/combined.html")
    return status


def study_named(asked: str, argument: str) -> str:
    """A finished study's name within results/. Raises ValueError where it is not there."""
    results = ROOT / "results"
    folder = find_study(asked, results, argument).resolve()
    if results.resolve() not in folder.parents:
        raise ValueError(f"{argument}={asked!r} is not in results/")
    return folder.relative_to(results.resolve()).as_posix()


def study_name(config: Path | None) -> str:
    """The `study` key of the config that Snakemake will see. Raises ValueError for a file that is no YAML mapping."""
    merged: dict[str, Any] = {}
    for path in [ROOT / "config" / "config.yaml", *([config] if config else [])]:
        merged |= (found := read_yaml(os.path.relpath(path)))
        require_name(found, path)
    return checked_name(merged)


def checked_name(config: dict[str, Any]) -> str:
    """The `study` key. Raises ValueError where it would name a folder outside results/, or another's."""
    rule = load_schema(ROOT / "config" / "config.schema.yaml")["properties"]["study"]
    if problem := schema_problem(config, {"required": ["study"], "properties": {"study": rule}}):
        raise ValueError(problem)
    return str(config["study"])


def pipeline(arguments: list[str], folder: Path = ROOT) -> tuple[int, Outcome]:
    """Run Snakemake with firsttoken's logger; its exit status, and how its jobs ended. Raises KeyboardInterrupt."""
    with PrivateFolder("outcome") as private:
        path = Path(private) / "outcome.json"
        # The profile is quiet about each job's reason; the log is not, but about this host.
        logger = ["--quiet", "host", "--logger", "firsttoken", "--logger-firsttoken-outcome", str(path)]
        status = run([*SNAKEMAKE, *logger, *arguments], folder)
        return status, read_json(path, Outcome) if path.exists() else Outcome()


def tell_failures(status: int, outcome: Outcome) -> None:
    """Where Snakemake's own output is and, the last that is printed, a line for each job that failed."""
    if status and outcome.log:
        print(f"Snakemake's own output is in {outcome.log}", file=sys.stderr)
    if status < 0:
        print(f"firsttoken: killed by {signal.Signals(-status).name}; the same command goes on", file=sys.stderr)
    for line in outcome.failures:
        print(line, file=sys.stderr)


def run(command: list[str], folder: Path = ROOT, output: IO[bytes] | None = None) -> int:
    """Run in the project's folder, or in `folder`, and give the exit status. Raises KeyboardInterrupt. `output`: a file
    for what it prints.

    Ctrl-C reaches the child from the terminal; SIGTERM is passed on as Ctrl-C to it and its jobs, since Snakemake would
    finish the running jobs first. Where we ignore Ctrl-C (a script's background job), the child has a session of its
    own, in which nothing ignores it. A child never outlives us, however we end: its jobs end with it.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal_on_parent_death(signal.SIGKILL)

    process = subprocess.Popen(
        command, cwd=folder, stdout=output, stderr=output, preexec_fn=prepare, start_new_session=ignored
    )
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


def summary(folder: Path, form: str) -> int:
    """Print the summary of a finished study. Raises ValueError for a shipped one, which has none."""
    file = folder / "tables" / (f"summary.{form}" if form else "answer.txt")
    if not file.exists():
        raise ValueError(f"{file}: not there; make report STUDY={folder} makes the report of a study that was shipped")
    if form:
        print(file.read_text(encoding="utf-8"), end="")
    else:
        print_summary(folder, folder / "report.html")
    return 0


def print_summary(results: Path, report: Path | None) -> None:
    """The table and the answer, as the pipeline wrote them, and what an edit of the provenance would change."""
    print()
    print((results / "tables" / "answer.txt").read_text(encoding="utf-8"))
    if report is not None and report.exists():
        print(f"Report: {report}")
    if (results / "provenance.json").exists():
        print(f"SHA-256 of provenance.json: {sha256_file(results / 'provenance.json')}")


if __name__ == "__main__":
    end_with(main)
