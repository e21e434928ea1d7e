"""How much an approach is to read: source lines without blanks, comments and docstrings, as radon counts them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from radon.raw import analyze


def source_lines(paths: Iterable[Path | str]) -> int:
    """Radon's SLOC of an approach's file and the package files that it imports; each file counts once."""
    return sum(analyze(Path(path).read_text(encoding="utf-8")).sloc for path in sorted({str(path) for path in paths}))
