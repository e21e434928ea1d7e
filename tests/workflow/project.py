"""A project folder to run Snakemake in, and what a dry run of it would do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from firsttoken.files import read_json
from firsttoken.inputs.model_check import check_model
from firsttoken.plan import ModelManifest

ROOT = Path(__file__).parents[2]
TINY = """\
study: tiny
threads: 2
approaches: [baseline, jit_only, cuda_graph, tensorrt_llm]
workload: {prompt_lengths: [6, 12], new_tokens: 3, requests: 4, repeats: 2, prompts_per_length: 2}
jit: {backend: torchscript}
experiments: []
"""


@dataclass(frozen=True)
class Jobs:
    """What a dry run would do: how many jobs of each rule, which benchmark runs, which figures."""

    rules: dict[str, int]
    runs: set[tuple[str, int]]
    figures: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Project:
    """A copy of the project with its results; `config` is laid over the default."""

    folder: Path
    config: str = "config/studies/tiny.yaml"

    def snakemake(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run it as the README says; `arguments` come after and win."""
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--resources", "gpu=1"]
        return self.run([*command, "--configfile", self.config, *arguments], env)

    def run(self, command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Any command in the project's folder, on a machine without a GPU."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **(env or {})},
            capture_output=True,
            text=True,
            timeout=900,
        )

    def dry_run(self, *arguments: str, env: dict[str, str] | None = None) -> Jobs:
        """The jobs that would run, by rule; `all` and `evidence` are not counted."""
        result = self.snakemake("--dry-run", *arguments, env=env)
        output = result.stdout + result.stderr
        assert result.returncode == 0, output
        counts: Counter[str] = Counter()
        table = re.search(r"^job +count\n[- ]+\n(.*?)^total", output, re.MULTILINE | re.DOTALL)
        if table:
            for line in table.group(1).strip().splitlines():
                rule, count = line.split()
                counts[rule] = int(count)
        for target in ("all", "evidence"):
            counts.pop(target, None)
        runs = {(name, int(repeat)) for repeat, name in re.findall(r"Process (\d+) of (\w+):", output)}
        return Jobs(rules=dict(counts), runs=runs, figures=set(re.findall(r"Drawing (\w+)", output)))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file, which must hold it."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} does not hold {old!r}"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def append(self, path: str, text: str) -> None:
        with (self.folder / path).open("a", encoding="utf-8") as stream:
            stream.write(text)


def copy_tree(source: Path, target: Path) -> None:
    """With times kept, since Snakemake looks at them."""
    shutil.copytree(source, target, copy_function=shutil.copy2, symlinks=True)


def hash_model(project: Project) -> None:
    """What `check_model` would leave for the tiny study where the project lies now."""
    (weights,) = (project.folder / "results/models").glob("*/model.safetensors")
    manifest = read_json(f"{weights.parent}.json", ModelManifest)
    check_model(weights.parent, manifest, project.folder / "results/tiny/model_check.json")


def fresh_clone(folder: Path) -> Path:
    """The files of this checkout, committed or not, as a stranger would have them after `git clone`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("results/"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    (folder / "config" / "studies" / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return folder
