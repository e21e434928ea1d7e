"""What the samples mean: pooled samples, equality, tables, verdicts, comparison; and the gates, which alone may fail.

Needs: the raw files of benchmark.smk, reference.safetensors, ceilings.json, environment.json, config/published.yaml.
Makes: results/{study}/samples.parquet, tables/*.csv, results/compare/{a}_vs_{b}/, results/{study}/gates/*.
"""


rule pool_runs:
    input:
        samples=raw("parquet"),
        records=raw("json"),
        tokens=raw("tokens.json"),
        sources=sources("pooled_runs.py", "study/job.py"),
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
        sources=sources("analysis/equality_positions.py", "study/job.py"),
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
        sources=sources("analysis/equivalence.py", "study/job.py"),
    output:
        equivalence="results/{study}/tables/equivalence.csv",
    log:
        "results/{study}/logs/check_equivalence.log",
    conda:
        "../envs/base.yaml"
    params:
        dtype=STUDY.config["model"]["dtype"],
        sampling=sampling_method(),
    message:
        "Judging whether every approach computes the same function"
    script:
        "../scripts/check_equivalence.py"


rule summarise_latency:
    input:
        samples="results/{study}/samples.parquet",
        records="results/{study}/records.parquet",
        equivalence="results/{study}/tables/equivalence.csv",
        ceilings="results/{study}/ceilings.json",
        sources=sources("analysis/latency_tables.py", "study/job.py"),
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


rule judge_claims:
    input:
        published=STUDY.config["claims"]["file"],
        summary=table("summary"),
        processes=table("process_statistics"),
        environment="results/{study}/environment.json",
        manifest=MODEL_MANIFEST,
        experiments=experiment_files(),
        sources=sources("analysis/claims.py", "study/job.py"),
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
        sources=sources("analysis/effects.py", "study/job.py"),
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
        sources=sources("analysis/checklist.py", "study/job.py"),
    output:
        checklist="results/{study}/tables/checklist.csv",
    log:
        "results/{study}/logs/write_checklist.log",
    conda:
        "../envs/base.yaml"
    params:
        figures=FIGURES,
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
        sources=sources("analysis/answer.py", "study/job.py"),
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


# Of two finished studies; neither is run from here.
rule compare_studies:
    input:
        a="results/{a}/provenance.json",
        b="results/{b}/provenance.json",
        bounds="config/equality_bounds.csv",
        sources=sources("analysis/compare.py", "study/job.py"),
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


# The gates run last: each ends the run with one line that names all offences, and by then the evidence lies on disk.
# `ancient`: they wait for the provenance, but a new one is no reason to judge the same table again.


rule gate_floors:
    input:
        table=table("latency_by_length"),
        evidence=ancient("results/{study}/provenance.json"),
        sources=sources("analysis/gates.py", "study/job.py"),
    output:
        passed="results/{study}/gates/floors",
    log:
        "results/{study}/gates/floors.log",
    priority: -1
    conda:
        "../envs/base.yaml"
    message:
        "Gate: no median below its physical floor"
    script:
        "../scripts/gate.py"


rule gate_equality:
    input:
        table=table("equivalence"),
        evidence=ancient("results/{study}/provenance.json"),
        sources=sources("analysis/gates.py", "study/job.py"),
    output:
        passed="results/{study}/gates/equality",
    log:
        "results/{study}/gates/equality.log",
    priority: -1
    conda:
        "../envs/base.yaml"
    message:
        "Gate: every approach computes the same function"
    script:
        "../scripts/gate.py"


rule gate_status:
    input:
        table=table("summary"),
        evidence=ancient("results/{study}/provenance.json"),
        sources=sources("analysis/gates.py", "study/job.py"),
    output:
        passed="results/{study}/gates/status",
    log:
        "results/{study}/gates/status.log",
    priority: -1
    conda:
        "../envs/base.yaml"
    params:
        on_unavailable=STUDY.config["on_unavailable"],
    message:
        "Gate: no approach failed"
    script:
        "../scripts/gate.py"


rule gate_regression:
    input:
        table="results/compare/{a}_vs_{b}/comparison.json",
        sources=sources("analysis/gates.py", "study/job.py"),
    output:
        passed="results/compare/{a}_vs_{b}/no_regression",
    log:
        "results/compare/{a}_vs_{b}/no_regression.log",
    priority: -1
    conda:
        "../envs/base.yaml"
    message:
        "Gate: {wildcards.b} is not slower than {wildcards.a}"
    script:
        "../scripts/gate.py"
