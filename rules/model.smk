"""What goes in: the model, the prompts, the reference outputs.

Needs: config/corpus.txt; the hub or a folder where the config names one.
Makes: results/models/{model}/ and its manifest, results/{study}/prompts.json, results/{study}/reference.safetensors.
"""


rule fetch_model:
    input:
        corpus="config/corpus.txt",
        originals=local_inputs(STUDY.model),
        sources=sources("inputs/fetch.py", "study/job.py"),
    output:
        model=directory(MODEL_DIR),
        manifest=MODEL_MANIFEST,
    log:
        f"{MODEL_DIR}.log",
    conda:
        "../envs/base.yaml"
    params:
        model=STUDY.model,
    message:
        "Fetching the model into {output.model}"
    script:
        "../scripts/fetch_model.py"


rule make_prompts:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        corpus="config/corpus.txt",
        sources=sources("inputs/prompts.py", "study/job.py"),
    output:
        prompts="results/{study}/prompts.json",
    log:
        "results/{study}/logs/make_prompts.log",
    conda:
        "../envs/base.yaml"
    params:
        lengths=STUDY.config["workload"]["prompt_lengths"],
        per_length=STUDY.config["workload"]["prompts_per_length"],
        seed=STUDY.config["workload"]["seed"],
    message:
        "Cutting prompts of real text"
    script:
        "../scripts/make_prompts.py"


# The yardstick of every equality check: float32, eager, greedy.
rule make_reference:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        prompts="results/{study}/prompts.json",
        sources=sources(
            "runtime/reference.py",
            "measure/device_lock.py",
            "measure/environment.py",
            "study/job.py",
        ),
    output:
        reference="results/{study}/reference.safetensors",
    log:
        "results/{study}/logs/make_reference.log",
    # Before any run: else those that do not need it would all come before those that do.
    priority: 20_000
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        new_tokens=STUDY.config["workload"]["new_tokens"],
        logit_prompts_per_length=STUDY.config["equivalence"]["prompts_per_length"],
        device=STUDY.device,
        threads=STUDY.config["threads"],
    message:
        "Running the float32 reference"
    script:
        "../scripts/make_reference.py"
