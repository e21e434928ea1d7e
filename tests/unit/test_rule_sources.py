"""The code of each job covers what its script imports from the package: else an edit there would rerun nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DeploymentMethod,
    DeploymentSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from firsttoken.approaches.base import approach_class, approach_names
from firsttoken.study.sources import AROUND_JOBS, module_files, package_sources

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
EXPERIMENTS = {
    "ipc": "measure/ipc.py",
    "clients": "measure/clients.py",
    "pool_memory": "measure/experiments.py",
    "pool_misses": "measure/experiments.py",
    "launches": "measure/launches.py",
}


@dataclass(frozen=True)
class Job:
    """One job of the workflow; of the rules that this study does not use, the rule."""

    rule: str
    script: str
    wildcards: dict[str, str]
    code: set[str]
    conda: str = ""
    container: str | None = None

    @property
    def package(self) -> set[str]:
        """The package's files in its code, relative to the package, without the empty `__init__.py`."""
        files = {path.partition("scripts/firsttoken/")[2] for path in self.code}
        return {name for name in files if name and not name.endswith("__init__.py")}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Those of the default study, with all approaches and experiments, in a folder without results: of what is there
    already Snakemake asks conda. Seen failing: `make run`, then `make test`, without conda."""
    names = [name for name in approach_names() if not name.startswith("null")]
    config = {"approaches": names, "experiments": list(EXPERIMENTS)}
    with pytest.MonkeyPatch.context() as patch, SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        loaded = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=config),
            deployment_settings=DeploymentSettings({DeploymentMethod.CONDA, DeploymentMethod.APPTAINER}),
            snakefile=ROOT / "Snakefile",
        )
        loaded.dag().summary()
        workflow = loaded._workflow
        made = [
            Job(
                rule=job.rule.name,
                script=Path(job.rule.script).name,
                wildcards=dict(job.wildcards.items()),
                code={*job.params.get("code", ()), *job.input.get("sources", ())},
                conda=Path(str(job.conda_env_spec.file.get_path_or_uri(secret_free=True))).name,
                container=job.container_img_url,
            )
            for job in workflow.dag.jobs
            if job.rule.script
        ]
        unused = [rule for rule in workflow.rules if rule.script and rule.name not in {job.rule for job in made}]
        return made + [Job(rule.name, Path(rule.script).name, {}, unused_code(rule)) for rule in unused]


def unused_code(rule: Any) -> set[str]:
    """The code of a rule that this study does not need; for TensorRT-LLM where an environment decides."""
    code = rule.params["code"] if isinstance(rule.params, dict) else rule.params.code
    return set(code(SimpleNamespace(environment="tensorrt_llm")) if callable(code) else code)


def imported(script: Path) -> Iterator[str]:
    """The package's modules that a script imports when it starts."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for file in (file for name in names for file in module_files(SCRIPTS, name)):
                yield str(file.relative_to(SCRIPTS / "firsttoken"))


def chosen_by_wildcards(job: Job) -> list[str]:
    """The modules that a script imports by the name of its figure or experiment."""
    if job.rule == "plot":
        return [f"analysis/figures/{job.wildcards['figure']}.py"]
    return [EXPERIMENTS[job.wildcards["experiment"]]] if job.rule == "measure_experiment" else []


def test_the_code_covers_what_the_script_imports(jobs: list[Job]) -> None:
    assert {"plot", "measure_experiment", "benchmark_approach", "prepare_engine"} <= {job.rule for job in jobs}
    for job in jobs:
        modules = {*imported(SCRIPTS / job.script), *chosen_by_wildcards(job)} - {*AROUND_JOBS}
        needed = {Path(path) for module in modules for path in package_sources(SCRIPTS, module, AROUND_JOBS)}
        names = {str(path.relative_to(SCRIPTS / "firsttoken")) for path in needed if path.name != "__init__.py"}
        assert any(path.endswith(f"scripts/{job.script}") for path in job.code), job.script
        assert names <= job.package, f"{job.rule} {job.wildcards} lacks {sorted(names - job.package)}"


def test_a_module_of_one_figure_or_experiment_concerns_its_job_alone(jobs: list[Job]) -> None:
    figures = [job.wildcards["figure"] for job in jobs if job.rule == "plot"]
    assert len(figures) == 11
    for figure in figures:
        users = [job.wildcards for job in jobs if f"analysis/figures/{figure}.py" in job.package]
        assert [user["figure"] for user in users] == [figure]
    ipc, pool = ("measure/ipc.py", "measure/experiments.py")
    measured = {job.wildcards["experiment"]: job.package for job in jobs if job.rule == "measure_experiment"}
    assert {name for name, files in measured.items() if ipc in files} == {"ipc"}
    assert {name for name, files in measured.items() if pool in files} == {"pool_memory", "pool_misses"}


def test_each_approach_runs_in_its_own_environment(jobs: list[Job]) -> None:
    runs = [job for job in jobs if job.rule == "benchmark_approach"]
    assert {job.wildcards["approach"] for job in runs} == set(approach_names())
    for job in runs:
        approach = job.wildcards["approach"]
        assert f"approaches/{approach}.py" in job.package
        environment = approach_class(approach).environment
        assert job.conda == f"{environment}.yaml" and (ROOT / "envs" / job.conda).is_file()
        assert (job.container or "").startswith("docker://") == (environment == "tensorrt_llm")
