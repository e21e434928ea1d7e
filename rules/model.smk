"""What goes in: the model, the prompts, the reference outputs.

Needs: config/corpus.txt; the hub or a folder where the config names one.
Makes: results/models/{model}/ and its manifest, results/{study}/model_check.json, prompts.json, reference.safetensors.
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


# Once a study and machine. Also writes .cache/model_stat.json, which belongs to the machine and is no evidence.
# To hash again is no reason to measure again: of the same files model_check.json gets the same bytes, and Snakemake
# compares small inputs by checksum. It is not `ancient` for what measures: when an ancient file is made again,
# Snakemake 9.27 overlooks every other reason to run the jobs behind it. The sources are, here and where
# they are compared with: they change no number.
rule check_model:
    input:
        model=MODEL_DIR,
        manifest=MODEL_MANIFEST,
        sources=ancient(sources("inputs/model_check.py", "study/job.py")),
    output:
        check="results/{study}/model_check.json",
    log:
        "results/{study}/logs/check_model.log",
    priority: 25_000
    conda:
        "../envs/base.yaml"
    resources:
        gpu=1,  # it measures nothing, but would disturb who does
    params:
        # On a machine of another kind all is measured again, maybe with a copy of the model. One of the same kind has
        # the same fingerprint: there the inodes tell, and the measuring process says what to do.
        fingerprint=FINGERPRINT,
    message:
        "Hashing the model's files"
    script:
        "../scripts/check_model.py"


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
        model_check="results/{study}/model_check.json",
        prompts="results/{study}/prompts.json",
        sources=sources(
            "hf/reference.py",
            "hardware.py",
            "study/job.py",
        ),
        check_sources=ancient(sources("inputs/model_check.py")),
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
