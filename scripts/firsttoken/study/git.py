"""Which commit has the very bytes that a job read: code moves on, and a result must stay traceable."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path


def history_problem(root: Path) -> str:
    """Why a commit may not be found here though it exists, or ""."""
    if not _git(root, "rev-list", "--all", "--max-count=1", "--", "."):
        return "no git history of this project to look in"
    if (_git(root, "rev-parse", "--is-shallow-repository") or b"").strip() == b"true":
        return "this clone lacks earlier commits: run git fetch --unshallow"
    return ""


def uncommitted(root: Path) -> str:
    """Why the project's files are not those of a commit, or ""."""
    status = _git(root, "status", "--porcelain", "--", ".")
    if status is None:
        return "git cannot say of which commit this project is: run git status here"
    changed = status.decode(errors="replace").splitlines()
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"not as in a commit: {changed[0][3:]}{more}" if changed else ""


def committed(root: Path, file: Path) -> bool:
    """Whether git knows a file of the project."""
    return _git(root, "ls-files", "--error-unmatch", "--", str(file.resolve())) is not None


def commit_with(root: Path, path: str, sha256: str) -> str | None:
    """The latest commit, of any branch, whose `path` has that SHA-256; None where there is none, or no git."""
    # The full history: else git leaves out a merged branch that had the file for a while.
    for commit in (_git(root, "rev-list", "--all", "--full-history", "--", path) or b"").decode().split():
        # These are the commits that changed the file: what one of them took away, its parent still has.
        for holder in (commit, f"{commit}^"):
            content = _git(root, "show", f"{holder}:./{path}")
            if content is not None and hashlib.sha256(content).hexdigest() == sha256:
                return (_git(root, "rev-parse", holder) or b"").decode().strip()
    return None


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git says, or None where it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
