"""What the samples mean: pooled samples, equality, tables, verdicts, figures, comparison; and the gates.

Needs: the raw files, ceilings.json and environment.json of measure.smk, reference.safetensors, config/claims/*.yaml.
Makes: results/{study}/samples.parquet, records.parquet, tables/*.csv, figures/*, gates/*, results/compare/{a}_vs_{b}/.
"""

GATES = {  # gate -> what it reads, by the names of its parameters
    "floors": "latency_by_length ceilings",
    "equality": "equivalence",
    "status": "summary records",
}

STUDY_FILES = {  # what is no table, by the names of the parameters that take it
    "positions": table("equality_positions"),
    "samples": f"{RESULTS}/samples.parquet",
    "records": f"{RESULTS}/records.parquet",
    "environment": f"{RESULTS}/environment.json",
    "ceilings": f"{RESULTS}/ceilings.json",
    "answer": f"{RESULTS}/tables/answer.txt",
    "manifest": MODEL_MANIFEST,
    "bounds": f"{CONFIG}/equality_bounds.csv",
    "published": CLAIM_FILES,
}
WRITTEN = {  # file in tables/ -> the function that writes it, and its inputs
    "equivalence.csv": (
        "analysis/equivalence.py:check_equivalence",
        "positions records bounds",
    ),
    "effects.csv": (
        "analysis/effects.py:estimate_effects",
        "summary process_statistics records",
    ),
    "dynamic_work.csv": (
        "analysis/dynamic_work.py:write_dynamic_work",
        "samples summary records",
    ),
    "claims.csv": (
        "analysis/claims.py:judge_claims",
        "published summary latency_by_length process_statistics environment manifest",
    ),
    "checklist.csv": (
        "analysis/checklist.py:write_checklist",
        "summary latency_by_length process_statistics instrument records environment ceilings",
    ),
    "answer.txt": (
        "analysis/answer.py:write_answer",
        "summary latency_by_length process_statistics records environment manifest",
    ),
    "landing.rst": (
        "report/landing.py:write_landing",
        "answer summary claims records environment manifest",
    ),
    "summary.md": (
        "report/summary_files.py:write_markdown",
        "summary environment manifest",
    ),
    "summary.json": (
        "report/summary_files.py:write_summary_json",
        "answer summary environment manifest",
    ),
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
        equivalence=table("equivalence"),
        ceilings="results/{study}/ceilings.json",
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
        code=code("summarise_latency.py"),
        order=APPROACHES,
        controls=[name for name in APPROACHES if approach_class(name).control],
        source_files={
            name: approach_sources(SCRIPTS, approach_class(name))
            for name in APPROACHES
        },
    message:
        "Summarising the latencies"
    script:
        "../scripts/summarise_latency.py"


# Each file by a function of its own, so that an edit there writes this file alone.
rule write_table:
    input:
        unpack(written_inputs),
    output:
        "results/{study}/tables/{file}",
    log:
        "results/{study}/logs/write_table.{file}.log",
    wildcard_constraints:
        file="|".join(map(re.escape, WRITTEN)),
    conda:
        "../envs/base.yaml"
    params:
        code=lambda wildcards: code(
            "write_table.py", WRITTEN[wildcards.file][0].split(":")[0]
        ),
        function=lambda wildcards: WRITTEN[wildcards.file][0],
        arguments=written_arguments,
    message:
        "Writing {wildcards.file}"
    script:
        "../scripts/write_table.py"


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
        unpack(lambda wildcards: study_files(GATES[wildcards.gate].split())),
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
