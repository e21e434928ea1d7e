"""From the config to the study: checked values, paths, the sources behind each rule.

Needs: config/config.yaml (and what --configfile lays over it), config/config.schema.yaml.
Makes: STUDY, the grid and the functions that the other rule files use. Ends with one line when the config is wrong.
"""

import os
import re
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from firsttoken.approaches.base import approach_class, approach_names
from firsttoken.hardware import visible_gpu
from firsttoken.inputs.checks import (
    hub_access_problem,
    local_inputs,
    model_limits,
    model_problem,
)
from firsttoken.measure.environment import fingerprint, machine_facts
from firsttoken.study.config import (
    ConfigError,
    Study,
    finished_studies,
    load_schema,
)
from firsttoken.study.sources import not_chosen, package_sources

ROOT = Path(
    os.path.relpath(workflow.basedir)
)  # relative, so that what is recorded holds in any clone
INSTRUMENT = ["null", "null_2p"]  # measured in every study: the harness's own price
ENGINE_APPROACHES = [name for name in approach_names() if approach_class(name).engine]


def checked_study():
    """The study, or the end of the program with one line that says what is wrong with its config."""
    promised_gpu = str((config.get("hardware") or {}).get("gpu", ""))
    try:
        study = Study.check(
            config,
            load_schema(ROOT / "config" / "config.schema.yaml"),
            known_approaches=[
                name for name in approach_names() if name not in INSTRUMENT
            ],
            has_cuda=bool(promised_gpu) or visible_gpu() is not None,
        )
        problem = model_problem(study.model)
        if not problem and not Path(f"results/models/{study.model_id}.json").exists():
            problem = hub_access_problem(study.model)
        if problem:
            raise ConfigError(problem)
        limit = model_limits(study.model)
        if limit is not None:
            study.check_context(limit)
        study.check_availability(
            {name: availability(name, study) for name in study.config["approaches"]}
        )
        study.check_compared(finished_studies(Path("results")))
        return study
    except ConfigError as error:
        sys.exit(f"firsttoken: {error}")


def deployment_methods():
    """How the rules' environments are deployed, e.g. ["conda"]; empty: the environment that runs Snakemake."""
    return sorted(
        str(method) for method in workflow.deployment_settings.deployment_method
    )


def availability(name, study):
    """Whether an approach can run in this study. An engine's packages come with the deployment, where there is one."""
    approach = approach_class(name)
    if approach.engine and study.device == "cuda":
        return approach.deployed(deployment_methods())
    return approach.availability(study.device)


STUDY = checked_study()
APPROACHES = STUDY.config["approaches"]
MODEL_DIR = f"results/models/{STUDY.model_id}"
MODEL_MANIFEST = f"results/models/{STUDY.model_id}.json"
EXPECTED_GPU = STUDY.config["hardware"]["gpu"]
MACHINE = machine_facts(STUDY.device, EXPECTED_GPU, deployment_methods())
FINGERPRINT = fingerprint(MACHINE)
AVAILABILITY = {name: availability(name, STUDY) for name in [*APPROACHES, *INSTRUMENT]}
EXPERIMENTS = STUDY.config["experiments"]
PAIRS = [f"{pair['a']}_vs_{pair['b']}" for pair in STUDY.config["compare"]]


wildcard_constraints:
    study=re.escape(STUDY.name),
    approach="|".join([*APPROACHES, *INSTRUMENT]),
    repeat=r"\d+",


def sources(*modules, without=()):
    """The package's files behind some of its modules, for a rule to take as inputs, found through their imports."""
    return sorted(
        {
            path
            for module in modules
            for path in package_sources(ROOT / "scripts", module, without)
        }
    )


def approach_sources(wildcards):
    """What a benchmark run of one approach is made of."""
    harness = sources("measure/harness.py", "measure/environment.py", "hardware.py")
    return sorted({*approach_files(wildcards.approach), *harness})


def approach_files(name):
    """What an approach itself is made of, the harness left out: its size is its complexity."""
    approach = approach_class(name)
    if not hasattr(approach, "forward"):  # not one of those that share the runtime
        return sources(f"approaches/{name}.py")
    skipped = not_chosen(approach.forward, approach.dynamic_operations)
    return sources(f"approaches/{name}.py", without=skipped)


def sampling_method():
    """`greedy` or `sample`."""
    return "greedy" if STUDY.config["workload"]["sampling"] == "greedy" else "sample"


def engine_input(wildcards):
    """The engine's folder and manifest, where the approach needs them and can run."""
    if AVAILABILITY[wildcards.approach].status == "unavailable":
        return []
    return [f"results/{STUDY.name}/engine", f"results/{STUDY.name}/engine.json"]


def compile_cache_dir(approach):
    """A private folder of compiled code for each approach of the study: set-up times are compared, so none may begin
    with what another has compiled.
    """
    return f"results/{STUDY.name}/.cache/{approach}"


def run_params(wildcards):
    """Everything of the config that decides what one benchmark run does."""
    workload = STUDY.config["workload"]
    engine_dir = (
        f"results/{STUDY.name}/engine"
        if wildcards.approach in ENGINE_APPROACHES
        else ""
    )
    return {
        "plan": STUDY.plan(
            compile_cache_dir=compile_cache_dir(wildcards.approach),
            engine_dir=engine_dir,
        ),
        "requests": workload["requests"],
        "pause_ms": workload["pause_ms"],
        # Weights do not change from process to process: the first one's logits are enough.
        "logit_prompts_per_length": (
            STUDY.config["equivalence"]["prompts_per_length"]
            if wildcards.repeat == "1"
            else 0
        ),
        "model_hash": STUDY.model_id,
        "fingerprint": FINGERPRINT,
        "expected_gpu": EXPECTED_GPU,
        "availability": AVAILABILITY[wildcards.approach].status,
    }


def run_priority(wildcards):
    """Repeat 1 of every approach before repeat 2 of any, so that drift of the machine falls on all alike; within a
    repeat in an order of its own, so that none always runs behind the same other one.
    """
    names, repeat = [*APPROACHES, *INSTRUMENT], int(wildcards.repeat)
    order = Random(f"{STUDY.config['workload']['seed']} {repeat}").sample(
        names, len(names)
    )
    return max(1, 15_000 - repeat * len(names) - order.index(wildcards.approach))


def raw(suffix, approaches=None):
    """One raw file of every run: `raw("parquet")`."""
    return expand(
        f"results/{STUDY.name}/raw/{{approach}}/{{repeat}}.{suffix}",
        approach=[*APPROACHES, *INSTRUMENT] if approaches is None else approaches,
        repeat=STUDY.repeats,
    )


CONTROLS = [name for name in APPROACHES if approach_class(name).control]
SOURCE_FILES = {name: approach_files(name) for name in APPROACHES}


def table(name):
    """One of the study's tables, e.g. `table("summary")`."""
    return f"results/{STUDY.name}/tables/{name}.csv"


def spread_lengths(number):
    """Prompt lengths that no config names: `number` of them, evenly spread up to the longest prompt of the study."""
    longest = max(STUDY.config["workload"]["prompt_lengths"])
    step = max(1, longest // number)
    return [step * (place + 1) - 1 for place in range(number) if step * (place + 1) > 1]


def experiment_files():
    """The tables of the further measurements that the config asks for."""
    return [f"results/{STUDY.name}/experiments/{name}.csv" for name in EXPERIMENTS]


def compare_threshold(wildcards):
    """From which share on a slowdown of b is a regression."""
    for pair in STUDY.config["compare"]:
        if (pair["a"], pair["b"]) == (wildcards.a, wildcards.b):
            return pair.get("threshold", 0.05)
    return 0.05
