"""A Slurm, a project, and the commands of docs/cluster.md; without Slurm, all is skipped with its reason."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.slurm import Slurm, missing, running_slurm
from workflow.project import ROOT, fresh_clone

TINY = """\
study: tiny
approaches: [baseline, cuda_graph]
workload: {prompt_lengths: [6], new_tokens: 3, requests: 4, repeats: 1, prompts_per_length: 2}
jit: {backend: torchscript}
experiments: []
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, reason = Path(__file__).parent, missing()
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if reason:
                item.add_marker(pytest.mark.skip(reason=f"Slurm: {reason}"))


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The commands of the first block of docs/cluster.md, with an interpreter that has what the first installs and all
    that this one has."""
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    found = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert found
    folder = tmp_path_factory.mktemp("plugin") / "venv"
    venv.create(folder, with_pip=True, symlinks=True)
    (site,) = folder.glob("lib/*/site-packages")
    (site / "project.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    commands = found.group(1).replace(".venv/bin/python", str(folder / "bin" / "python")).replace("NAME", "tiny")
    install, run = map(shlex.split, commands.splitlines())
    installed = subprocess.run([*install, "--quiet"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"pip cannot install the plugin: {installed.stderr.strip().splitlines()[-1]}")
    return [install, run]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fresh_clone(tmp_path_factory.mktemp("clone"))
    (folder / "config" / "studies" / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return folder
