"""What the samples mean: pooled samples, equality, tables, verdicts, comparison; and the gates, which alone may fail.

Needs: the raw files of benchmark.smk, reference.safetensors, ceilings.json, environment.json, config/published.yaml.
Makes: results/{study}/samples.parquet, tables/*.csv, results/compare/{a}_vs_{b}/, results/{study}/gates/*.
"""


rule pool_samples:
    input:
        samples=raw("parquet"),
        records=raw("json"),
        sources=sources("analysis/samples.py", "study/job.py"),
    output:
        samples="results/{study}/samples.parquet",
    log:
        "results/{study}/logs/pool_samples.log",
    conda:
        "../envs/base.yaml"
    message:
        "Pooling the samples of all processes"
    script:
        "../scripts/pool_samples.py"


rule check_equivalence:
    input:
        tokens=raw("tokens.json", APPROACHES),
        records=raw("json", APPROACHES),
        logits=raw("logits", APPROACHES),
        reference="results/{study}/reference.safetensors",
        sources=sources("analysis/equivalence.py", "study/job.py"),
    output:
        equivalence="results/{study}/tables/equivalence.csv",
    log:
        "results/{study}/logs/check_equivalence.log",
    conda:
        "../envs/base.yaml"
    params:
        dtype=STUDY.config["model"]["dtype"],
        logit_gap=STUDY.config["equivalence"]["logit_gap"],
        sampling=sampling_method(),
    message:
        "Comparing every approach's tokens and logits with the reference"
    script:
        "../scripts/check_equivalence.py"


rule summarise_latency:
    input:
        samples="results/{study}/samples.parquet",
        records=raw("json"),
        equivalence="results/{study}/tables/equivalence.csv",
        ceilings="results/{study}/ceilings.json",
        sources=sources("analysis/tables.py", "study/job.py"),
    output:
        summary="results/{study}/tables/summary.csv",
        by_length="results/{study}/tables/latency_by_length.csv",
        processes="results/{study}/tables/process_statistics.csv",
        instrument="results/{study}/tables/instrument.csv",
    log:
        "results/{study}/logs/summarise_latency.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        controls=CONTROLS,
        source_files=SOURCE_FILES,
    message:
        "Summarising the latencies"
    script:
        "../scripts/summarise_latency.py"
