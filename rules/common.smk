"""The study: the checked config, the paths and the functions that the other rule files use.

Needs: config/config.yaml (and what --configfile lays over it), config/config.schema.yaml, envs/containers.yaml.
Makes: STUDY and the names below. Ends with one line where the config is wrong.
"""

import os
import re
import sys
from functools import cache
from pathlib import Path
from random import Random

import yaml

# Of this project, also where another workflow uses it as a module. Relative, so that recorded paths hold in any clone.
ROOT = Path(os.path.relpath(f"{workflow.current_basedir.get_path_or_uri(True)}/.."))
CONFIG = str(ROOT / "config")
if not Path(CONFIG).exists():
    sys.exit(
        "firsttoken: a module is used from a clone on this disk: snakefile: /path/to/firsttoken/Snakefile"
    )
sys.path.insert(0, str(ROOT.resolve() / "scripts"))

from firsttoken.approaches.base import approach_class
from firsttoken.device_job import GPUS
from firsttoken.inputs.checks import local_inputs
from firsttoken.inputs.model_check import require_checked
from firsttoken.measure.environment import fingerprint, machine_facts
from firsttoken.plan import INSTRUMENT
from firsttoken.preflight import (
    check_study,
    claim_files,
    environments_of,
    shell_problem,
)
from firsttoken.report.documents import page_names
from firsttoken.study.config_file import require_name
from firsttoken.study.runs import begin_run
from firsttoken.study.schema import one_line
from firsttoken.study.sources import (
    approach_sources,
    run_sources,
    script_sources,
)
from firsttoken.study.trace import changed_outputs, digests
from firsttoken.yaml_files import read_yaml

# Snakemake takes some mistakes silently, and reads the command line's files before this one.
try:
    for path in [f"{CONFIG}/config.yaml", *workflow.overwrite_configfiles]:
        read_yaml(os.path.relpath(path))
    given = workflow.config_settings
    if given.configfiles:
        require_name(given.overwrite_config, given.configfiles[-1])
except ValueError as error:
    sys.exit(f"firsttoken: {one_line(str(error))}")


configfile: f"{CONFIG}/config.yaml"


SCRIPTS = ROOT / "scripts"
CONFIG_SCHEMA = f"{CONFIG}/config.schema.yaml"
CONFIG_FILES = sorted(map(os.path.relpath, [*workflow.configfiles, CONFIG_SCHEMA]))
# What the environments are installed from. As inputs they are `ancient`: what counts is the versions in use, which
# the fingerprint has.
LOCKS = sorted(map(str, [*ROOT.glob("requirements*.lock"), *ROOT.glob("envs/*")]))
CONTAINERS = yaml.safe_load((ROOT / "envs" / "containers.yaml").read_text())
# How the rules' environments are deployed, e.g. ["conda"]; empty: all run in the environment that runs Snakemake.
DEPLOYMENT = sorted(map(str, workflow.deployment_settings.deployment_method))
if (
    "apptainer" in DEPLOYMENT
):  # Snakemake starts containers without the GPU; this is apptainer's --nv
    os.environ.setdefault("APPTAINER_NV", "1")
    os.environ.setdefault("SINGULARITY_NV", "1")


def check_files(results, model):
    """The end of the program with one line where a finished job's outputs are other files than it wrote. A change of
    the model is said: what was measured stands, and no job will measure before its files are hashed again.
    """
    check = results / "model_check.json"
    if check.exists() and model.exists():
        try:
            require_checked(model, check)
        except ValueError as error:
            print(f"firsttoken: {error}", file=sys.stderr)
    try:
        changed = changed_outputs([results / "logs", results / "gates"])
    except ValueError as error:
        sys.exit(f"firsttoken: {error}")
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        sys.exit(
            f"firsttoken: {changed[0]}{more}: not the bytes that its job wrote; delete it and run again, which makes "
            "it again"
        )


try:
    STUDY = check_study(
        config,
        ROOT / "config",
        Path("results"),
        DEPLOYMENT,
        examine=workflow.is_main_process,
    )
except ValueError as error:
    sys.exit(f"firsttoken: {one_line(str(error))}")
RESULTS = f"results/{STUDY.name}"
if workflow.is_main_process and not workflow.output_settings.dryrun:
    try:  # held until this process ends
        RUN = begin_run(workflow.snakemake_tmp_dir, Path(RESULTS))
    except ValueError as error:
        sys.exit(f"firsttoken: {error}")
if workflow.is_main_process:  # each job takes a free one of so many GPUs
    os.environ[GPUS] = str(workflow.global_resources.get("gpu").value or 1)
WORKLOAD = STUDY.config["workload"]
APPROACHES = STUDY.config["approaches"]
EXPERIMENTS = STUDY.config["experiments"]
CLAIM_FILES = claim_files(STUDY, ROOT / "config")
MODEL_DIR = f"results/models/{STUDY.model_id}"
MODEL_MANIFEST = f"{MODEL_DIR}.json"
if workflow.is_main_process:  # not in its jobs, which may run side by side
    check_files(Path(RESULTS), Path(MODEL_DIR))
EXPECTED_GPU = STUDY.config["hardware"]["gpu"]
MACHINE = machine_facts(STUDY.device, EXPECTED_GPU, DEPLOYMENT)
ENVIRONMENTS = environments_of(STUDY, DEPLOYMENT)
AVAILABILITY = {
    name: ENVIRONMENTS.availability(name) for name in [*APPROACHES, *INSTRUMENT]
}
SOFTWARE = ENVIRONMENTS.software()
FINGERPRINT = fingerprint(MACHINE, SOFTWARE["base"])


wildcard_constraints:
    study=re.escape(STUDY.name),
    approach="|".join(AVAILABILITY),
    repeat=r"\d+",
    environment=r"\w+",


@cache
def code(script, *modules):
    """Digests of a rule's script and the package's files behind it. As a param: they are compared by content, and as
    inputs Snakemake would look at every one for every job.
    """
    return digests(script_sources(SCRIPTS, script, *modules))


@cache
def run_code(approach):
    """The same for a benchmark run of an approach."""
    return digests(run_sources(SCRIPTS, approach_class(approach)))


def run_plan(wildcards):
    """What one benchmark run is asked to do."""
    approach = approach_class(wildcards.approach)
    return STUDY.plan(
        compile_cache_dir=compile_cache_dir(wildcards.approach),
        engine_dir=engine_dir(approach.environment) if approach.needs_engine else "",
    )


def engine_dir(environment):
    """Where an environment's engine is, with its manifest beside it as {engine_dir}.json."""
    return f"{RESULTS}/engine/{environment}"


def compile_cache_dir(approach):
    """A folder of compiled code for each approach: set-up times are compared, so none may use another's."""
    return f"{RESULTS}/.cache/{approach}"


def engine_files(wildcards):
    """The engine that an approach runs and its manifest."""
    approach = approach_class(wildcards.approach)
    unavailable = AVAILABILITY[approach.name].status == "unavailable"
    if unavailable or not approach.needs_engine:
        return []
    folder = engine_dir(approach.environment)
    return [folder, f"{folder}.json"]


def reference_file(wildcards):
    """The reference's texts, for the approaches that give logits for them."""
    gives_logits = approach_class(wildcards.approach).gives_logits
    return f"{RESULTS}/reference.safetensors" if gives_logits else []


def experiment_model(wildcards):
    """The model's files and the corpus, for the experiments that run the model."""
    if not EXPERIMENT_LENGTHS[wildcards.experiment]:
        return {}
    return {
        "model": MODEL_DIR,
        "manifest": MODEL_MANIFEST,
        "model_check": f"{RESULTS}/model_check.json",
        "corpus": f"{CONFIG}/corpus.txt",
    }


def environment_name(wildcards):
    """The environment of a rule that has one as its wildcard, or an approach."""
    if hasattr(wildcards, "environment"):
        return wildcards.environment
    return approach_class(wildcards.approach).environment


def configured_python(wildcards):
    """What the config says of a job's interpreter: where `make env-NAME` put one is no reason to run again."""
    return STUDY.pythons.get(environment_name(wildcards), "")


def job_fingerprint(wildcards):
    """The machine and the software that a job runs with: another version of an engine reruns its approaches alone."""
    return fingerprint(MACHINE, SOFTWARE[environment_name(wildcards)])


def conda_environment(wildcards):
    """The conda environment of a job, relative to this file; the base's where another interpreter does the work."""
    name = environment_name(wildcards)
    name = "base" if ENVIRONMENTS.python(name) else name
    return f"../envs/{name}.yaml"


def container_image(wildcards):
    """The container of a job; None where its environment has none or another interpreter does the work."""
    name = environment_name(wildcards)
    return None if ENVIRONMENTS.python(name) else CONTAINERS.get(name)


# Not asked for each job of a large study where nothing is deployed.
ENVIRONMENT_FILE = conda_environment if "conda" in DEPLOYMENT else "../envs/base.yaml"
CONTAINER = container_image if "apptainer" in DEPLOYMENT else None


def host_memory_mb(wildcards):
    """What the preparation of an engine needs on a cluster."""
    settings = STUDY.config.get(wildcards.environment, {})
    return 1024 * settings.get("host_memory_gib", 16)


def run_priority(wildcards):
    """Repeat 1 of every approach before repeat 2 of any, so that drift of the machine affects all alike; within a
    repeat in a random order, so that no approach always runs after the same other one.
    """
    names, repeat = list(AVAILABILITY), int(wildcards.repeat)
    order = Random(f"{WORKLOAD['seed']} {repeat}").sample(names, len(names))
    return max(1, 15_000 - repeat * len(names) - order.index(wildcards.approach))


def raw(suffix, approaches=tuple(AVAILABILITY)):
    """One raw file of every run: `raw("parquet")`."""
    return expand(
        f"{RESULTS}/raw/{{approach}}/{{repeat}}.{suffix}",
        approach=approaches,
        repeat=STUDY.repeats,
    )


def table(name):
    """A table of the study or of one of its experiments: `table("summary")`, `table("ipc")`."""
    folder = "experiments" if name in EXPERIMENTS else "tables"
    return f"{RESULTS}/{folder}/{name}.csv"


def compare_threshold(wildcards):
    """The slowdown of b, as a share, from which on it is a regression."""
    for pair in STUDY.config["compare"]:
        if (pair["a"], pair["b"]) == (wildcards.a, wildcards.b):
            return pair.get("threshold", 0.05)
    return 0.05


def combined_studies(wildcards):
    """The provenance of each study of a combination: it is written when the study is complete."""
    listed = Path(f"results/combine/{wildcards.combination}/studies.txt")
    return [f"results/{name}/provenance.json" for name in listed.read_text().split()]


def figure_caption(wildcards):
    """A figure's caption, for its page and the report. As a parameter, so that an edit draws this figure alone."""
    return (ROOT / "report" / "captions" / f"{wildcards.figure}.rst").read_text()


def excerpted_files(templates):
    """The package's files whose functions the templates show: an edit renders the pages again, or fails them."""
    text = "".join(Path(template).read_text() for template in templates)
    names = re.findall(r'source\("([^":]+):', text)
    return sorted({str(ROOT / "scripts" / "firsttoken" / name) for name in names})
