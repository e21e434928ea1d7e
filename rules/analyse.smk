"""What the samples mean: pooled samples, equality, tables, verdicts, figures, comparison; and the gates.

Needs: the raw files, ceilings.json and environment.json of measure.smk, reference.safetensors, config/published.yaml.
Makes: results/{study}/samples.parquet, records.parquet, tables/*.csv, figures/*, gates/*, results/compare/{a}_vs_{b}/.
"""

GATES = {  # gate -> the table that it reads
    "floors": "latency_by_length",
    "equality": "equivalence",
    "status": "summary",
}


rule pool_runs:
    input:
        samples=raw("parquet"),
        records=raw("json"),
        tokens=raw("tokens.json"),
        sources=sources("pooled_runs.py"),
    output:
        samples="results/{study}/samples.parquet",
        records="results/{study}/records.parquet",
    log:
        "results/{study}/logs/pool_runs.log",
    conda:
        "../envs/base.yaml"
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
        sources=sources("analysis/equality_positions.py"),
    output:
        positions="results/{study}/tables/equality_positions.csv",
    log:
        "results/{study}/logs/compare_with_reference.log",
    conda:
        "../envs/base.yaml"
    message:
        "Comparing every approach's tokens and logits with the reference"
    script:
        "../scripts/compare_with_reference.py"


rule check_equivalence:
    input:
        positions="results/{study}/tables/equality_positions.csv",
        records="results/{study}/records.parquet",
        bounds="config/equality_bounds.csv",
        sources=sources("analysis/equivalence.py"),
    output:
        equivalence="results/{study}/tables/equivalence.csv",
    log:
        "results/{study}/logs/check_equivalence.log",
    conda:
        "../envs/base.yaml"
    params:
        dtype=STUDY.config["model"]["dtype"],
        sampling="greedy" if WORKLOAD["sampling"] == "greedy" else "sample",
    message:
        "Judging whether every approach computes the same function"
    script:
        "../scripts/check_equivalence.py"


rule summarise_latency:
    input:
        samples="results/{study}/samples.parquet",
        records="results/{study}/records.parquet",
        equivalence=table("equivalence"),
        ceilings="results/{study}/ceilings.json",
        sources=sources("analysis/latency_tables.py"),
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
        controls=[name for name in APPROACHES if approach_class(name).control],
        source_files={name: approach_files(name) for name in APPROACHES},
    message:
        "Summarising the latencies"
    script:
        "../scripts/summarise_latency.py"


rule judge_claims:
    input:
        **{name: table(name) for name in EXPERIMENTS},
        published=STUDY.config["claims"]["file"],
        summary=table("summary"),
        processes=table("process_statistics"),
        environment="results/{study}/environment.json",
        manifest=MODEL_MANIFEST,
        sources=sources("analysis/claims.py"),
    output:
        claims="results/{study}/tables/claims.csv",
    log:
        "results/{study}/logs/judge_claims.log",
    conda:
        "../envs/base.yaml"
    params:
        dtype=STUDY.config["model"]["dtype"],
    message:
        "Judging the published claims"
    script:
        "../scripts/judge_claims.py"


rule estimate_effects:
    input:
        summary=table("summary"),
        processes=table("process_statistics"),
        records="results/{study}/records.parquet",
        sources=sources("analysis/effects.py"),
    output:
        effects="results/{study}/tables/effects.csv",
    log:
        "results/{study}/logs/estimate_effects.log",
    conda:
        "../envs/base.yaml"
    message:
        "Separating the effects of graphs, JIT, late reading and the second process"
    script:
        "../scripts/estimate_effects.py"


rule write_checklist:
    input:
        summary=table("summary"),
        by_length=table("latency_by_length"),
        processes=table("process_statistics"),
        instrument=table("instrument"),
        records="results/{study}/records.parquet",
        environment="results/{study}/environment.json",
        ceilings="results/{study}/ceilings.json",
        sources=sources("analysis/checklist.py"),
    output:
        checklist="results/{study}/tables/checklist.csv",
    log:
        "results/{study}/logs/write_checklist.log",
    conda:
        "../envs/base.yaml"
    params:
        figures=lambda wildcards: list(FIGURES),
    message:
        "Checking the study against the rules of honest benchmarking"
    script:
        "../scripts/write_checklist.py"


rule write_answer:
    input:
        summary=table("summary"),
        by_length=table("latency_by_length"),
        processes=table("process_statistics"),
        environment="results/{study}/environment.json",
        manifest=MODEL_MANIFEST,
        sources=sources("analysis/answer.py"),
    output:
        answer="results/{study}/tables/answer.txt",
    log:
        "results/{study}/logs/write_answer.log",
    conda:
        "../envs/base.yaml"
    message:
        "Writing the answer"
    script:
        "../scripts/write_answer.py"


# Of two finished studies; this runs neither of them.
rule compare_studies:
    input:
        a="results/{a}/provenance.json",
        b="results/{b}/provenance.json",
        bounds="config/equality_bounds.csv",
        sources=sources("analysis/compare.py"),
    output:
        table="results/compare/{a}_vs_{b}/comparison.csv",
        verdict="results/compare/{a}_vs_{b}/comparison.json",
    log:
        "results/compare/{a}_vs_{b}/logs/compare_studies.log",
    conda:
        "../envs/base.yaml"
    params:
        threshold=compare_threshold,
    message:
        "Comparing {wildcards.b} with {wildcards.a}"
    script:
        "../scripts/compare_studies.py"


# The gates run last, when all results are on disk; each ends the run with one line that names every offence.
# `ancient`: they wait for the provenance, but a new one is no reason to judge the same table again.
rule gate_study:
    input:
        table=lambda wildcards: table(GATES[wildcards.gate]),
        evidence=ancient("results/{study}/provenance.json"),
        sources=sources("analysis/gates.py"),
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
        table="results/compare/{a}_vs_{b}/comparison.json",
        sources=sources("analysis/gates.py"),
    output:
        passed="results/compare/{a}_vs_{b}/no_regression",
    log:
        "results/compare/{a}_vs_{b}/no_regression.log",
    priority: -1
    conda:
        "../envs/base.yaml"
    params:
        gate="regression",
        options={},
    message:
        "Gate: {wildcards.b} is not slower than {wildcards.a}"
    script:
        "../scripts/gate.py"
