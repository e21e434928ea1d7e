"""Bytes that are no longer in the working tree are found in git's history, or said not to be."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from firsttoken.study.git import commit_with, committed, history_problem, uncommitted


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "-q")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, text: str | None) -> str:
        """`code.py` with this text, or without the file; the commit's name."""
        path = self.root / "code.py"
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_each_version_is_found_in_its_commit(repository: Repository) -> None:
    first, second = repository.commit("one"), repository.commit("two")
    assert commit_with(repository.root, "code.py", sha256("two")) == second
    assert commit_with(repository.root, "code.py", sha256("one")) == first


def test_a_file_that_was_moved_away_is_found_where_it_was(repository: Repository) -> None:
    last = repository.commit("one")
    repository.commit(None)
    assert commit_with(repository.root, "code.py", sha256("one")) == last


def test_a_file_of_a_side_branch_that_was_merged_without_it_is_found(repository: Repository) -> None:
    """Seen failing: git leaves out a branch that ends as the other one was, and with it scripts/convert_study.py."""
    (repository.root / "README").write_text("main")
    repository.git("add", "README")
    repository.git("commit", "-q", "-m", "first")
    main = repository.git("branch", "--show-current")
    repository.git("checkout", "-q", "-b", "side")
    written = repository.commit("one")
    repository.commit(None)
    repository.git("checkout", "-q", main)
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    repository.git("branch", "-d", "side")
    assert commit_with(repository.root, "code.py", sha256("one")) == written


def test_what_a_search_cannot_see_is_told(repository: Repository, tmp_path: Path) -> None:
    assert history_problem(repository.root) == "no git history of this project to look in"
    repository.commit("one")
    repository.commit("two")
    assert history_problem(repository.root) == ""
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.root}", "shallow")
    assert "git fetch --unshallow" in history_problem(repository.root / "shallow")


def test_bytes_that_nobody_committed_are_not_found(repository: Repository) -> None:
    repository.commit("one")
    repository.commit(None)
    (repository.root / "code.py").write_text("never committed")
    assert commit_with(repository.root, "code.py", sha256("never committed")) is None
    assert commit_with(repository.root, "code.py", sha256("")) is None, "no file is not an empty file"
    assert commit_with(repository.root, "other.py", sha256("one")) is None


def test_without_a_repository_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit_with(tmp_path, "code.py", sha256("one")) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_with(tmp_path, "code.py", sha256("one")) is None


def test_what_is_not_as_in_a_commit_is_named(repository: Repository) -> None:
    assert uncommitted(repository.root / "nowhere").startswith("git cannot say")
    repository.commit("one")
    assert uncommitted(repository.root) == ""
    (repository.root / "code.py").write_text("edited")
    (repository.root / "new.py").write_text("new")
    assert uncommitted(repository.root) == "not as in a commit: code.py and 1 more"


def test_a_file_that_is_ignored_or_outside_is_in_no_commit(repository: Repository, tmp_path: Path) -> None:
    repository.commit("one")
    (repository.root / "own.yaml").write_text("study: x")
    assert committed(repository.root, repository.root / "code.py")
    assert not committed(repository.root, repository.root / "own.yaml")
    assert not committed(repository.root, tmp_path.parent / "elsewhere.yaml")
