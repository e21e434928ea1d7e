"""A study goes from the clone that measured it to one that keeps it: contribute, accept, verify, combine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken.files import sha256_file
from firsttoken.study.contribution import pack
from workflow.project import Project, copy_tree, hash_model

pytestmark = pytest.mark.workflow
CONTRIBUTE = [sys.executable, "scripts/contribute.py", "--config", "config/studies/tiny.yaml", "--by"]


def commit(folder: Path) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "the project")):
        subprocess.run(["git", *words], cwd=folder, check=True)


@pytest.fixture(scope="module")
def sent(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path]:
    """A clone that has measured and packed a study, and the archive."""
    copy_tree(finished.folder, folder := tmp_path_factory.mktemp("sender") / "a clone")
    project = Project(folder)
    hash_model(project)
    commit(folder)
    project.append("README.md", "edited\n")
    refused = project.run([*CONTRIBUTE, "Ada O'Neil <ada@example.org>"])
    assert refused.returncode == 1 and "not as in a commit: README.md" in refused.stderr
    assert not (folder / "results/contributions").exists()
    subprocess.run(["git", "checkout", "-q", "README.md"], cwd=folder, check=True)
    done = project.run([*CONTRIBUTE, "Ada O'Neil <ada@example.org>", "--note", "two cores"])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (archive,) = (folder / "results/contributions").iterdir()
    assert "firsttoken: tensorrt_llm cannot run here: " in done.stdout
    assert f"SHA-256: {sha256_file(archive)}\n" in done.stdout and "contributor.json: Ada O'Neil, ada@" in done.stdout
    return project, archive


def accept(project: Project, archive: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return project.run([sys.executable, "scripts/contribute.py", "--accept", str(archive), *options])


def test_a_study_is_kept_checked_and_combined_by_who_measured_nothing(
    sent: tuple[Project, Path], tmp_path: Path
) -> None:
    project, archive = sent
    keeper = Project(tmp_path / "keeper")
    subprocess.run(["git", "clone", "-q", str(project.folder), str(keeper.folder)], check=True)
    reference = keeper.folder / "results/reference"
    (reference / "tiny").mkdir(parents=True)
    taken = accept(keeper, archive)
    assert taken.returncode == 1 and "results/reference/tiny is another study; add STUDY=tiny-2" in taken.stderr
    accepted = accept(keeper, archive, "--as", "tiny-2")
    assert accepted.returncode == 0, accepted.stdout[-3000:] + accepted.stderr
    again = accept(keeper, archive, "--as", "tiny-3")
    assert again.returncode == 1 and "is there already as results/reference/tiny-2" in again.stderr
    kept = [path for path in reference.rglob("*") if path.is_file()]
    assert len(kept) <= 21 and {path.parent.name for path in kept} <= {"reference", "tiny-2", "tables"}
    assert "| Ada O'Neil |" in (reference / "README.md").read_text(encoding="utf-8")
    sound = keeper.run([sys.executable, "scripts/verify.py", "results/reference/tiny-2"])
    assert sound.returncode == 0 and "no job made it" not in sound.stdout, sound.stdout

    other = reference / "elsewhere"
    shutil.copytree(reference / "tiny-2", other)
    machine = json.loads((other / "environment.json").read_text(encoding="utf-8"))
    (other / "environment.json").write_text(json.dumps(machine | {"memory_bytes": 1}), encoding="utf-8")
    combine = [sys.executable, "scripts/run.py", "--combine", "reference/tiny-2", "reference/elsewhere"]
    combined = keeper.run([*combine, "--configfile", "config/studies/tiny.yaml"])
    assert combined.returncode == 0 and "2 hosts" in combined.stdout, combined.stdout + combined.stderr[-3000:]


def test_what_is_forged_or_of_a_config_that_no_commit_has_is_not_kept(
    sent: tuple[Project, Path], tmp_path: Path
) -> None:
    project, archive = sent
    keeper = Project(tmp_path / "keeper")
    shutil.copytree(project.folder, keeper.folder, ignore=shutil.ignore_patterns("results", ".git", "tiny.yaml"))
    commit(keeper.folder)
    refused = accept(keeper, archive)
    assert refused.returncode == 1 and "not accepted" in refused.stderr
    assert "input config/studies/tiny.yaml: in no commit and not on disk" in refused.stdout
    shutil.copy(project.folder / "config/studies/tiny.yaml", keeper.folder / "config/studies/tiny.yaml")
    commit(keeper.folder)
    table = "tiny/tables/equality_positions.csv"
    shutil.unpack_archive(archive, tmp_path / "forged", filter="data")
    (tmp_path / "forged" / table).write_text("a,b\n", encoding="utf-8")
    forged = shutil.make_archive(str(tmp_path / "x"), "gztar", tmp_path / "forged", table)
    refused = accept(keeper, Path(forged))
    assert refused.returncode == 1 and "tiny: has no contributor.json, model.json" in refused.stderr
    pack(tmp_path / "forged/tiny", Path(forged))
    refused = accept(keeper, Path(forged))
    assert refused.returncode == 1 and "result results/tiny/tables/equality_positions.csv: its bytes" in refused.stdout
    assert [str(path.relative_to(keeper.folder)) for path in keeper.folder.glob("results/**/*")] == [
        "results/reference"
    ]
    assert accept(keeper, archive).returncode == 0
