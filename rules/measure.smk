"""The measurements: the config as run, the machine, its ceilings, a fresh process for each approach and repeat, the experiments.

Needs: config files and locks; the model, its check, prompts and reference of model.smk; for TensorRT-LLM a CUDA device
and its environment.
Makes: results/{study}/config.yaml, environment.json, ceilings.json, engine/, raw/{approach}/{repeat}.*, experiments/*.csv.
Every rule that measures asks for gpu=1 and takes the device's lock, so that no two of them share the device.
"""

POOL_MODULES = [
    "measure/experiments.py",
    "approaches/jit_cuda.py",
    "inputs/prompts.py",
]
EXPERIMENT_MODULES = {
    "ipc": ["measure/ipc.py", "approaches/null.py", "approaches/null_2p.py"],
    "clients": [
        "measure/clients.py",
        "approaches/jit_cuda.py",
        "approaches/jit_cuda_1p_ahead.py",
        "inputs/prompts.py",
    ],
    "pool_memory": POOL_MODULES,
    "pool_misses": POOL_MODULES,
    "launches": [
        "measure/launches.py",
        "approaches/cuda_graph_1p.py",
        "approaches/eager_loop.py",
        "inputs/prompts.py",
    ],
}
EXPERIMENT_LENGTHS = {
    name: STUDY.experiment_lengths(name) for name in EXPERIMENT_MODULES
}


rule record_config:
    input:
        configs=CONFIG_FILES,
    output:
        config="results/{study}/config.yaml",
    log:
        "results/{study}/logs/record_config.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("record_config.py"),
        config=STUDY.config,
    message:
        "Writing down the config as run"
    script:
        "../scripts/record_config.py"


rule record_environment:
    input:
        locks=ancient(LOCKS),
    output:
        environment="results/{study}/environment.json",
    log:
        "results/{study}/logs/record_environment.log",
    priority: 30_000  # first: a study that is cut off still says where it ran
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,  # it measures nothing; on a cluster only such a job sees a GPU
    params:
        code=code("record_environment.py"),
        machine=MACHINE,
        software={  # an engine without an interpreter of its own has no software here
            name: facts
            for name, facts in SOFTWARE.items()
            if name == "base" or ENVIRONMENTS.python(name)
        },
        availability={
            name: [found.status, found.reason] for name, found in AVAILABILITY.items()
        },
        threads=STUDY.config["threads"],
        expected_gpu=EXPECTED_GPU,
    message:
        "Recording the machine and its software"
    script:
        "../scripts/record_environment.py"


rule measure_ceilings:
    input:
        manifest=MODEL_MANIFEST,
        devices=f"{CONFIG}/devices.csv",
    output:
        ceilings="results/{study}/ceilings.json",
    log:
        "results/{study}/logs/measure_ceilings.log",
    priority: 20_000
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        code=code("measure_ceilings.py", "hardware.py"),
        plan=STUDY.plan(),
        fingerprint=FINGERPRINT,
        expected_gpu=EXPECTED_GPU,
    message:
        "Measuring this device's bandwidth and matrix rate"
    script:
        "../scripts/measure_ceilings.py"


# What an engine of its own needs before it can run: external/{environment}/engine.py makes it.
rule prepare_engine:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
    output:
        engine=directory("results/{study}/engine/{environment}"),
        manifest="results/{study}/engine/{environment}.json",
    log:
        "results/{study}/logs/prepare_engine.{environment}.log",
    priority: 20_000  # before any run: else all runs of this engine would come last
    conda:
        ENVIRONMENT_FILE
    container:
        CONTAINER
    resources:
        gpu=1,
        mem_mb=host_memory_mb,  # the name that cluster executors know
    params:
        code=lambda wildcards: code(
            "prepare_engine.py",
            "external/prepare.py",
            f"external/{wildcards.environment}/engine.py",
            "hardware.py",
        ),
        plan=lambda wildcards: STUDY.plan(engine_dir=engine_dir(wildcards.environment)),
        python=configured_python,
        fingerprint=job_fingerprint,
        expected_gpu=EXPECTED_GPU,
    message:
        "Preparing the engine of {wildcards.environment}"
    script:
        "../scripts/prepare_engine.py"


# Each approach runs in its own environment, envs/{environment}.yaml or the container of that name.
rule benchmark_approach:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
        prompts="results/{study}/prompts.json",
        reference=reference_file,
        engine=engine_files,
    output:
        samples="results/{study}/raw/{approach}/{repeat}.parquet",
        record="results/{study}/raw/{approach}/{repeat}.json",
        tokens="results/{study}/raw/{approach}/{repeat}.tokens.json",
        logits=directory("results/{study}/raw/{approach}/{repeat}.logits"),
    log:
        "results/{study}/logs/benchmark/{approach}/{repeat}.log",
    priority: run_priority
    conda:
        ENVIRONMENT_FILE
    container:
        CONTAINER
    resources:
        gpu=1,
    params:
        plan=run_plan,
        code=lambda wildcards: run_code(wildcards.approach),
        requests=WORKLOAD["requests"],
        pause_ms=WORKLOAD["pause_ms"],
        # The weights do not change from process to process: the first one's logits are enough.
        logit_prompts_per_length=lambda wildcards: (
            STUDY.config["equivalence"]["prompts_per_length"]
            if wildcards.repeat == "1"
            else 0
        ),
        model_hash=STUDY.model_id,
        python=configured_python,
        fingerprint=job_fingerprint,
        expected_gpu=EXPECTED_GPU,
        availability=lambda wildcards: AVAILABILITY[wildcards.approach].status,
    message:
        "Process {wildcards.repeat} of {wildcards.approach}: {params.availability}"
    script:
        "../scripts/benchmark_approach.py"


rule measure_experiment:
    input:
        unpack(experiment_model),
    output:
        table="results/{study}/experiments/{experiment}.csv",
    log:
        "results/{study}/logs/measure_experiment.{experiment}.log",
    wildcard_constraints:
        experiment="|".join(EXPERIMENT_MODULES),
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        code=lambda wildcards: code(
            "measure_experiment.py", *EXPERIMENT_MODULES[wildcards.experiment]
        ),
        plan=STUDY.plan(compile_cache_dir=compile_cache_dir("jit_cuda")),
        lengths=lambda wildcards: EXPERIMENT_LENGTHS[wildcards.experiment],
        fingerprint=FINGERPRINT,
        expected_gpu=EXPECTED_GPU,
    message:
        "Running the experiment {wildcards.experiment}"
    script:
        "../scripts/measure_experiment.py"
