"""What goes in: the model, the prompts, the reference outputs.

Needs: config/corpus.txt; the hub or a folder where the config names one.
Makes: results/models/{model}/ and its manifest, results/{study}/model_check.json, prompts.json, reference.safetensors.
"""


rule fetch_model:
    input:
        corpus=f"{CONFIG}/corpus.txt",
        originals=local_inputs(STUDY.model),
    output:
        model=directory(MODEL_DIR),
        manifest=MODEL_MANIFEST,
    log:
        f"{MODEL_DIR}.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("fetch_model.py"),
        model=STUDY.model,
    message:
        "Fetching the model into {output.model}"
    script:
        "../scripts/fetch_model.py"


# Once for each study and machine. It also writes .cache/model_stat.json, which belongs to the machine and is no result.
# The rules that measure take model_check.json as an input: the same files give the same bytes, and Snakemake compares
# small inputs by checksum, so hashing again reruns nothing. It must not be `ancient` there: when an ancient file is made
# again, Snakemake 9.27 overlooks every other reason to run the jobs that take it.
rule check_model:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        sources=ancient(list(code("check_model.py"))),
    output:
        check="results/{study}/model_check.json",
    log:
        "results/{study}/logs/check_model.log",
    priority: 25_000
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,  # it measures nothing, but would disturb a measurement
    params:
        # A machine of another kind measures all again, perhaps with a copy of the model. On another machine of the same
        # kind the fingerprint is the same; there the inodes differ, and the measuring job says what to do.
        fingerprint=FINGERPRINT,
    message:
        "Hashing the model's files"
    script:
        "../scripts/check_model.py"


rule make_prompts:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        corpus=f"{CONFIG}/corpus.txt",
        own=WORKLOAD["prompts"] or [],
    output:
        prompts="results/{study}/prompts.json",
    log:
        "results/{study}/logs/make_prompts.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("make_prompts.py"),
        lengths=config["workload"]["prompt_lengths"],  # none: own prompts as they are
        per_length=WORKLOAD["prompts_per_length"],
        seed=WORKLOAD["seed"],
    message:
        "Cutting prompts of real text"
    script:
        "../scripts/make_prompts.py"


# What every approach is compared with: float32, eager, greedy.
rule make_reference:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        model_check="results/{study}/model_check.json",
        prompts="results/{study}/prompts.json",
    output:
        reference="results/{study}/reference.safetensors",
    log:
        "results/{study}/logs/make_reference.log",
    priority: 20_000  # before any run: else those that do not need it would all come first
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,
    params:
        code=code("make_reference.py", "hardware.py"),
        new_tokens=WORKLOAD["new_tokens"],
        logit_prompts_per_length=STUDY.config["equivalence"]["prompts_per_length"],
        device=STUDY.device,
        threads=STUDY.config["threads"],
        expected_gpu=EXPECTED_GPU,
    message:
        "Running the float32 reference"
    script:
        "../scripts/make_reference.py"
