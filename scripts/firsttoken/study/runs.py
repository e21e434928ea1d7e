"""The runs of one project folder, each a main process of Snakemake: what a killed one left is removed, what a live one
holds is not.

A run has a private folder in .snakemake/. Its flock says, for every process of this kernel, whether the run lives; a
run on another host is taken to be alive.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from firsttoken.files import HALF_WRITTEN, storage_problem
from firsttoken.private_folder import PrivateFolder, dead_folders, is_dead

UNLOCK = shlex.join([sys.executable, "-m", "snakemake", "--unlock"])  # it is on no PATH where `make run` installed it
HOLDER = "holder.txt"
VARIABLE = "FIRSTTOKEN_RUN"  # in the environment of a run's jobs: its folder
TEMPORARY = "temporary.txt"  # path of Snakemake's own temporary folder


def begin_run(temporary: Path, results: Path) -> PrivateFolder:
    """Say that this process runs here, for as long as it keeps what is returned; remove what killed runs left.

    To be called in the project's folder, before Snakemake locks it. `temporary` is Snakemake's temporary folder. A lock
    is removed where every run that may have taken it is dead; else one line on stderr says who may hold it. Raises
    ValueError in one line where files cannot be written here, or to `results`, the study's folder.
    """
    state = Path(".snakemake")
    # A study that may not be written at all can still be read, for its report.
    written = [results] if os.access(results, os.W_OK) else []
    if problem := storage_problem([state, Path(tempfile.gettempdir()), *written]):
        raise ValueError(problem)
    state.mkdir(exist_ok=True)
    locks = list((state / "locks").glob("*.lock"))  # listed first: whoever took one of them has a folder by now
    killed = 0
    for folder in dead_folders(state):
        killed += 1
        with suppress(FileNotFoundError):
            left = Path((folder / TEMPORARY).read_text())
            if left.name.startswith("snakemake"):  # never a path that was written in part
                shutil.rmtree(left, ignore_errors=True)
    run = PrivateFolder("run", state)
    os.environ[VARIABLE] = run.name
    holder = f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    (run.path / HOLDER).write_text(holder)
    (run.path / TEMPORARY).write_text(str(temporary))
    others = [folder for folder in state.glob("firsttoken-run-*") if folder.name != run.path.name]
    if not others:
        _remove_leftovers(state)
    if locks and killed and not others:
        print("firsttoken: removed the lock of a run that was killed", file=sys.stderr)
        for lock in locks:
            lock.unlink(missing_ok=True)
    elif locks:
        print(f"firsttoken: {_who_holds(others)}", file=sys.stderr)
    return run


def run_has_ended() -> bool:
    """Whether this is a job of a run that was killed meanwhile."""
    return VARIABLE in os.environ and is_dead(Path(os.environ[VARIABLE]))


def _who_holds(others: list[Path]) -> str:
    """One line on a lock that stays."""
    if not others:
        return f"this folder is locked, by which run is not known; if none is alive: {UNLOCK}"
    holder = others[0] / HOLDER
    who = holder.read_text() if holder.exists() else "a run that starts or ends just now"
    return f"this folder is locked by {who}; if that run is dead: rm -r {shlex.quote(str(others[0]))} && {UNLOCK}"


def _remove_leftovers(state: Path) -> None:
    """Files that a killed job had half written, and Snakemake's copies of its scripts."""
    for path in [*Path("results").rglob(f"{HALF_WRITTEN}*"), *(state / "scripts").glob("*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
