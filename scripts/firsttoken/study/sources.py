"""The files of the package that a module depends on, found by following its imports through the source.

Snakemake compares a script by its modification time alone, and not at all what it imports. So every rule has a param
`code`, the digests of the files that `script_sources` returns. Imports inside a module's functions count.
A package's `__init__.py` counts where something inside the package is imported. A module that is named in a string
counts, since a process is started by its module's name (`python -m firsttoken.server.server`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "firsttoken"
# An import, its indentation first, or a module's name in quotes. Ten times faster than `ast`, which every start of
# Snakemake would wait for.
NAMED = re.compile(
    rf"^( *)(?:from ({PACKAGE}[\w.]*) import (\([^)]*\)|.*)|import ({PACKAGE}[\w.]*))"
    rf"|[\"']({PACKAGE}\.[\w.]+)[\"']",
    re.MULTILINE,
)
# Around every job: its log, signals and trace, the device's lock, this module. An edit there changes no result.
AROUND_JOBS = ["study/job.py", "study/sources.py", "device_job.py"]
# Modules that only some approaches load, though code that all approaches share imports them (inside a function): module
# -> the forward passes, dynamic operations and numbers of processes that load it. Any other counts for every approach.
CHOSEN: dict[str, set[str | int]] = {
    "server/client.py": {2},
    "engine/loop.py": {"eager", "graph", "compiled", "compiled_int8"},
    "hf/steps.py": {"eager", "graph", "compiled", "compiled_int8"},
    "compiled/steps.py": {"compiled", "compiled_int8"},
    "engine/null.py": {"null"},
    "hf/jit_ops.py": {"jit", "captured"},
    "hf/published_ops.py": {"published"},
}


def not_chosen(forward: str, dynamic_operations: str, processes: int) -> list[str]:
    """The modules of CHOSEN that an approach never loads."""
    return [module for module, wanted in CHOSEN.items() if not wanted & {forward, dynamic_operations, processes}]


@cache
def script_sources(root: Path, script: str, *modules: str) -> list[str]:
    """Paths below `root` (the folder of scripts) of a rule's script, of `modules`, and of all that these import.

    `modules`, relative to the package, are those that the script imports inside a function: which ones depends on the
    job. AROUND_JOBS is left out.
    """
    path = root / script
    names = imported_names(path.read_text(encoding="utf-8"), top_level=True)
    imported = {file for name in names for file in module_files(root, name)}
    return sorted({str(path), *_followed(root, [*imported, *(root / PACKAGE / name for name in modules)], AROUND_JOBS)})


def approach_sources(root: Path, approach: type[Any]) -> list[str]:
    """Paths of the package's files behind an approach's class, the harness left out: their size is its complexity."""
    without: list[str] = []
    if hasattr(approach, "forward"):  # it uses one of our engines
        without = not_chosen(approach.forward, approach.dynamic_operations, approach.processes)
    return package_sources(root, f"approaches/{approach.name}.py", without)


def run_sources(root: Path, approach: type[Any]) -> list[str]:
    """Paths of the files behind one benchmark run."""
    harness = script_sources(root, "benchmark_approach.py", "measure/run.py", "measure/environment.py", "hardware.py")
    return sorted({*approach_sources(root, approach), *harness})


def code_digest(code: Mapping[str, str]) -> str:
    """One digest of the digests of source files, by path: runs of other code are not pooled."""
    total = hashlib.sha256()
    for path in sorted(code):
        total.update(code[path].encode())
    return total.hexdigest()


def package_sources(root: Path, module: str, without: Collection[str] = ()) -> list[str]:
    """Paths below `root` (the folder that holds the package) of `module` and all that it imports.

    `module` is relative to the package, e.g. `approaches/jit_only.py`. The modules in `without` are left out, and their
    imports are not followed. Raises FileNotFoundError where `module` does not exist.
    """
    return _followed(root, [root / PACKAGE / module], without)


def _followed(root: Path, start: Iterable[Path], without: Collection[str]) -> list[str]:
    seen: set[Path] = set()
    left_out = {root / PACKAGE / name for name in without}
    queue = list(start)
    while queue:
        path = queue.pop()
        if path in seen or path in left_out:
            continue
        seen.add(path)
        queue.extend(imported_files(root, path))
    return sorted(str(path) for path in seen)


@cache
def imported_files(root: Path, path: Path) -> tuple[Path, ...]:
    """The package's files that one file imports."""
    return tuple(file for name in imported_names(path.read_text(encoding="utf-8")) for file in module_files(root, name))


def imported_names(source: str, top_level: bool = False) -> Iterator[str]:
    """Names of the package's modules that a source imports or has in quotes; `top_level`: imports outside functions."""
    for indent, package, names, module, quoted in NAMED.findall(source):
        if top_level and (indent or quoted):
            continue
        yield package or module or quoted
        yield from (f"{package}.{name}" for name in re.findall(r"\w+", names))  # `from package import module`


def module_files(root: Path, name: str) -> Iterator[Path]:
    """The package's files behind a module's name: its own and the `__init__.py` above it; none for another package."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return
    for depth in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:depth])
        if (base / "__init__.py").is_file():
            yield base / "__init__.py"
        elif base.with_suffix(".py").is_file():
            yield base.with_suffix(".py")
