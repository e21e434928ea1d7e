"""The TensorRT-LLM engine.

Needs: the model, a CUDA device, the environment envs/tensorrt_llm.yaml or its container (--sdm conda or --sdm apptainer).
Makes: results/{study}/engine/ and results/{study}/engine.json.
"""

# Snakemake starts containers without the GPU; this is apptainer's --nv. The container is used by this engine's rules alone.
if "apptainer" in deployment_methods():
    os.environ.setdefault("APPTAINER_NV", "1")
    os.environ.setdefault("SINGULARITY_NV", "1")


rule build_trtllm_engine:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
        sources=sources(
            "external/tensorrt_llm/engine.py",
            "hardware.py",
            "study/job.py",
        ),
        check_sources=ancient(sources("inputs/model_check.py")),
    output:
        engine=directory("results/{study}/engine"),
        manifest="results/{study}/engine.json",
    log:
        "results/{study}/logs/build_trtllm_engine.log",
    # Before any run: else this approach's repeats would all come after those of the others.
    priority: 20_000
    conda:
        "../envs/tensorrt_llm.yaml"
    container:
        "docker://nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
    resources:
        gpu=1,
        mem_mb=1024 * STUDY.config["tensorrt_llm"]["host_memory_gib"],  # the name that cluster executors know
    params:
        plan=STUDY.plan(engine_dir=f"results/{STUDY.name}/engine"),
        machine=MACHINE,
        expected_gpu=EXPECTED_GPU,
    message:
        "Building the TensorRT-LLM engine"
    script:
        "../scripts/build_trtllm_engine.py"
