"""A finished tiny study in a clone whose path has a space, and copies of it to edit."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from workflow.project import Project, copy_tree, fresh_clone, hash_model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs the finished study: one worker begins there and makes it, the others do the rest meanwhile."""
    items.sort(key=lambda item: "finished" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The tiny study, run once for all workflow tests of all workers. Do not edit: take `project`."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    done = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not done.exists():
            project = Project(fresh_clone(tmp_path_factory.mktemp("a clone")))
            result = project.snakemake()
            assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
            done.write_text(str(project.folder), encoding="utf-8")
        return Project(Path(done.read_text(encoding="utf-8")))


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished tiny study, to be edited."""
    copy_tree(finished.folder, tmp_path / "a copy")
    copied = Project(tmp_path / "a copy")
    hash_model(copied)  # its files have other inodes than the original's
    return copied
