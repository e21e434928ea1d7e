"""What the samples mean: pooled samples, equality, tables, verdicts, figures, comparison; and the gates.

Needs: the raw files, ceilings.json and environment.json of measure.smk, reference.safetensors, config/claims/*.yaml.
Makes: results/{study}/samples.parquet, records.parquet, tables/*.csv, figures/*, gates/*, results/compare/{a}_vs_{b}/.
"""

GATES = {  # gate -> what it reads, by the names of its parameters
    "floors": {
        "latency_by_length": table("latency_by_length"),
        "ceilings": f"{RESULTS}/ceilings.json",
    },
    "equality": {"equivalence": table("equivalence")},
    "status": {
        "summary": table("summary"),
        "records": f"{RESULTS}/records.parquet",
    },
}


rule pool_runs:
    input:
        samples=raw("parquet"),
        records=raw("json"),
        tokens=raw("tokens.json"),
    output:
        samples="results/{study}/samples.parquet",
        records="results/{study}/records.parquet",
    log:
        "results/{study}/logs/pool_runs.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("pool_runs.py"),
    message:
        "Pooling the samples and records of all runs"
    script:
        "../scripts/pool_runs.py"


# Reads the logits, which are too large to ship; what comes behind it needs its table only.
rule compare_with_reference:
    input:
        records="results/{study}/records.parquet",
        logits=raw("logits", APPROACHES),
        reference="results/{study}/reference.safetensors",
    output:
        positions="results/{study}/tables/equality_positions.csv",
    log:
        "results/{study}/logs/compare_with_reference.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("compare_with_reference.py"),
    message:
        "Comparing every approach's tokens and logits with the reference"
    script:
        "../scripts/compare_with_reference.py"


rule summarise_latency:
    input:
        samples="results/{study}/samples.parquet",
        records="results/{study}/records.parquet",
        positions="results/{study}/tables/equality_positions.csv",
        bounds=f"{CONFIG}/equality_bounds.csv",
        ceilings="results/{study}/ceilings.json",
    output:
        equivalence="results/{study}/tables/equivalence.csv",
        summary="results/{study}/tables/summary.csv",
        by_length="results/{study}/tables/latency_by_length.csv",
        processes="results/{study}/tables/process_statistics.csv",
        instrument="results/{study}/tables/instrument.csv",
    log:
        "results/{study}/logs/summarise_latency.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("summarise_latency.py"),
        dtype=STUDY.config["model"]["dtype"],
        sampling="greedy" if WORKLOAD["sampling"] == "greedy" else "sample",
        order=APPROACHES,
        controls=[name for name in APPROACHES if approach_class(name).control],
        source_files={
            name: approach_sources(SCRIPTS, approach_class(name))
            for name in APPROACHES
        },
    message:
        "Checking equality and summarising the latencies"
    script:
        "../scripts/summarise_latency.py"


# What is read from the summary, all in one job: each file takes milliseconds, and a job seconds.
rule write_tables:
    input:
        samples="results/{study}/samples.parquet",
        records="results/{study}/records.parquet",
        summary=table("summary"),
        latency_by_length=table("latency_by_length"),
        process_statistics=table("process_statistics"),
        instrument=table("instrument"),
        environment="results/{study}/environment.json",
        ceilings="results/{study}/ceilings.json",
        manifest=MODEL_MANIFEST,
        published=CLAIM_FILES,
        experiments=[table(name) for name in EXPERIMENTS],
    output:
        effects="results/{study}/tables/effects.csv",
        dynamic_work="results/{study}/tables/dynamic_work.csv",
        claims="results/{study}/tables/claims.csv",
        checklist="results/{study}/tables/checklist.csv",
        answer="results/{study}/tables/answer.txt",
        landing="results/{study}/tables/landing.rst",
        markdown="results/{study}/tables/summary.md",
        json="results/{study}/tables/summary.json",
    log:
        "results/{study}/logs/write_tables.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("write_tables.py"),
        workload=WORKLOAD,
        dtype=STUDY.config["model"]["dtype"],
        figures=lambda wildcards: list(FIGURES),
    message:
        "Writing the answer, effects, claims and checklist"
    script:
        "../scripts/write_tables.py"


# Of two finished studies; this runs neither of them.
rule compare_studies:
    input:
        a="results/{a}/provenance.json",
        b="results/{b}/provenance.json",
        bounds=f"{CONFIG}/equality_bounds.csv",
    output:
        table="results/compare/{a}_vs_{b}/comparison.csv",
        verdict="results/compare/{a}_vs_{b}/comparison.json",
    log:
        "results/compare/{a}_vs_{b}/logs/compare_studies.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("compare_studies.py"),
        threshold=compare_threshold,
    message:
        "Comparing {wildcards.b} with {wildcards.a}"
    script:
        "../scripts/compare_studies.py"


# The gates run last, when all results are on disk; each ends the run with one line that names every offence. They judge
# again whenever the provenance is new. It must not be `ancient`: when an ancient file is made again, Snakemake 9.27
# overlooks every other reason to run the jobs that take it, and an interrupted study would end with old verdicts.
rule gate_study:
    input:
        unpack(lambda wildcards: GATES[wildcards.gate]),
        evidence="results/{study}/provenance.json",
    output:
        passed="results/{study}/gates/{gate}",
    log:
        "results/{study}/gates/{gate}.log",
    wildcard_constraints:
        gate="|".join(GATES),
    priority: -1
    conda:
        "../envs/base.yaml"
    params:
        code=code("gate.py"),
        gate="{gate}",
        options=lambda wildcards: (
            {"on_unavailable": STUDY.config["on_unavailable"]}
            if wildcards.gate == "status"
            else {}
        ),
    message:
        "Gate: {wildcards.gate}"
    script:
        "../scripts/gate.py"


rule gate_regression:
    input:
        comparison="results/compare/{a}_vs_{b}/comparison.json",
    output:
        passed="results/compare/{a}_vs_{b}/no_regression",
    log:
        "results/compare/{a}_vs_{b}/no_regression.log",
    priority: -1
    conda:
        "../envs/base.yaml"
    params:
        code=code("gate.py"),
        gate="regression",
        options={},
    message:
        "Gate: {wildcards.b} is not slower than {wildcards.a}"
    script:
        "../scripts/gate.py"
