"""Which files of the package stand behind a module: its own imports, followed through the source.

Snakemake sees a script's own changes, not those of the modules that it imports; so every rule takes the files that this
gives as inputs. Imports inside functions count; a package's `__init__.py` counts when something inside it is imported;
and so does a module named in a string, since that is how a process of its own is started (`python -m
firsttoken.server.server`).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

PACKAGE = "firsttoken"
# Modules that the runtime imports for some approaches only: by the forward pass or the dynamic operations they ask for.
CHOSEN = {
    "engine/loop.py": {"eager", "graph"},
    "compiled/compiled_engine.py": {"compiled"},
    "engine/null.py": {"null"},
    "hf/jit_ops.py": {"jit"},
}


def not_chosen(forward: str, dynamic_operations: str) -> list[str]:
    """Modules that an approach never loads, though the runtime that it shares with others names them."""
    return [module for module, wanted in CHOSEN.items() if not wanted & {forward, dynamic_operations}]


def package_sources(root: Path, module: str, without: Collection[str] = ()) -> list[str]:
    """Paths below `root` (the folder that holds the package) that the file `module` depends on, itself included.

    `module` is relative to the package, e.g. `approaches/jit_only.py`; so are those in `without`, which are not
    followed. Raises FileNotFoundError that names `module`.
    """
    start = root / PACKAGE / module
    if not start.is_file():
        raise FileNotFoundError(f"no such source file: {start}")
    seen: set[Path] = set()
    left_out = {root / PACKAGE / name for name in without}
    queue = [start]
    while queue:
        path = queue.pop()
        if path in seen or path in left_out:
            continue
        seen.add(path)
        queue.extend(_imported_files(root, path))
    return sorted(str(path) for path in seen)


@cache
def _imported_files(root: Path, path: Path) -> tuple[Path, ...]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    files: list[Path] = []
    for name in _imported_names(tree):
        files.extend(_module_files(root, name))
    return tuple(files)


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # `from package import module`
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{PACKAGE}."):
            yield node.value


def _module_files(root: Path, name: str) -> Iterator[Path]:
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return
    for depth in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:depth])
        if (base / "__init__.py").is_file():
            yield base / "__init__.py"
        elif base.with_suffix(".py").is_file():
            yield base.with_suffix(".py")
