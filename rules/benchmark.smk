"""The measurements: the machine, its ceilings, and one fresh process an approach and repeat.

Needs: the model, its check, prompts and reference of model.smk, the engine of engine.smk where TensorRT-LLM can run.
Makes: results/{study}/environment.json, ceilings.json, raw/{approach}/{repeat}.*, experiments/*.csv.
Every rule that measures asks for gpu=1 and takes the device's lock, so that no two of them share the device.
"""


rule record_environment:
    input:
        sources=sources("measure/environment.py", "study/job.py"),
    output:
        environment="results/{study}/environment.json",
    log:
        "results/{study}/logs/record_environment.log",
    priority: 30_000  # first of all: a study that is cut off still says where it ran
    conda:
        "../envs/base.yaml"
    params:
        machine=MACHINE,
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
        sources=sources(
            "measure/ceilings.py",
            "measure/device_lock.py",
            "measure/environment.py",
            "study/job.py",
        ),
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
        plan=STUDY.plan(),
        fingerprint=FINGERPRINT,
    message:
        "Measuring this device's bandwidth and matrix rate"
    script:
        "../scripts/measure_ceilings.py"


rule benchmark_approach:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
        prompts="results/{study}/prompts.json",
        reference="results/{study}/reference.safetensors",
        sources=approach_sources,
        check_sources=ancient(sources("inputs/model_check.py")),
    output:
        samples="results/{study}/raw/{approach}/{repeat}.parquet",
        record="results/{study}/raw/{approach}/{repeat}.json",
        tokens="results/{study}/raw/{approach}/{repeat}.tokens.json",
        logits=directory("results/{study}/raw/{approach}/{repeat}.logits"),
    log:
        "results/{study}/logs/benchmark/{approach}/{repeat}.log",
    wildcard_constraints:
        approach="|".join(
            name for name in AVAILABILITY if name not in ENGINE_APPROACHES
        ),
    priority: run_priority
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        run=run_params,
    message:
        "Measuring {wildcards.approach}, process {wildcards.repeat}"
    script:
        "../scripts/benchmark_approach.py"


# The same run in TensorRT-LLM's own environment.
rule benchmark_tensorrt_llm:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
        prompts="results/{study}/prompts.json",
        engine=engine_input,
        sources=approach_sources,
        check_sources=ancient(sources("inputs/model_check.py")),
    output:
        samples="results/{study}/raw/{approach}/{repeat}.parquet",
        record="results/{study}/raw/{approach}/{repeat}.json",
        tokens="results/{study}/raw/{approach}/{repeat}.tokens.json",
        logits=directory("results/{study}/raw/{approach}/{repeat}.logits"),
    log:
        "results/{study}/logs/benchmark/{approach}/{repeat}.log",
    wildcard_constraints:
        approach="|".join(ENGINE_APPROACHES),
    priority: run_priority
    conda:
        "../envs/tensorrt_llm.yaml"
    container:
        "docker://nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
    resources:
        gpu=1,
    params:
        run=run_params,
    message:
        "Measuring {wildcards.approach}, process {wildcards.repeat}"
    script:
        "../scripts/benchmark_approach.py"


rule measure_ipc:
    input:
        sources=sources(
            "measure/ipc.py",
            "approaches/null.py",
            "approaches/null_2p.py",
            "measure/device_lock.py",
            "measure/environment.py",
            "experiment_tables.py",
            "study/job.py",
        ),
    output:
        table="results/{study}/experiments/ipc.csv",
    log:
        "results/{study}/logs/measure_ipc.log",
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        plan=STUDY.plan(),
        fingerprint=FINGERPRINT,
    message:
        "Measuring the price of two processes"
    script:
        "../scripts/measure_ipc.py"


rule measure_pool_memory:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
        corpus="config/corpus.txt",
        sources=sources(
            "measure/experiments.py",
            "approaches/jit_cuda.py",
            "inputs/prompts.py",
            "measure/device_lock.py",
            "experiment_tables.py",
            "study/job.py",
        ),
        check_sources=ancient(sources("inputs/model_check.py")),
    output:
        table="results/{study}/experiments/pool_memory.csv",
    log:
        "results/{study}/logs/measure_pool_memory.log",
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        plan=STUDY.plan(compile_cache_dir=compile_cache_dir("jit_cuda")),
        lengths=spread_lengths(4 * STUDY.config["graphs"]["pool_capacity"]),
        fingerprint=FINGERPRINT,
    message:
        "Measuring device memory over many prompt lengths, rolling and unbounded"
    script:
        "../scripts/measure_pool_memory.py"


rule measure_pool_misses:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
        corpus="config/corpus.txt",
        sources=sources(
            "measure/experiments.py",
            "approaches/jit_cuda.py",
            "inputs/prompts.py",
            "measure/device_lock.py",
            "experiment_tables.py",
            "study/job.py",
        ),
        check_sources=ancient(sources("inputs/model_check.py")),
    output:
        table="results/{study}/experiments/pool_misses.csv",
    log:
        "results/{study}/logs/measure_pool_misses.log",
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        plan=STUDY.plan(compile_cache_dir=compile_cache_dir("jit_cuda")),
        lengths=spread_lengths(8),
        fingerprint=FINGERPRINT,
    message:
        "Measuring the price of a prompt length that was not captured beforehand"
    script:
        "../scripts/measure_pool_misses.py"
