"""What a reader opens besides the figures: pages and tables; the config as run and the provenance of all.

Needs: the tables of analysis.smk, the records of benchmark.smk.
Makes: results/{study}/approaches/*.html, pages/*.html, config.yaml, provenance.json.
"""


rule record_config:
    input:
        sources=sources("study/job.py"),
    output:
        config="results/{study}/config.yaml",
    log:
        "results/{study}/logs/record_config.log",
    conda:
        "../envs/base.yaml"
    params:
        config=STUDY.config,
    message:
        "Writing down the config as run"
    script:
        "../scripts/record_config.py"


rule write_provenance:
    input:
        results=lambda wildcards: evidence_files(),
        sources=sources("study/provenance.py", "study/job.py"),
    output:
        provenance=report(
            "results/{study}/provenance.json",
            caption="../report/captions/provenance.rst",
            category="Environment",
            labels={"item": "Provenance of every file"},
        ),
    log:
        "results/{study}/logs/write_provenance.log",
    conda:
        "../envs/base.yaml"
    params:
        model_trace=MODEL_MANIFEST.removesuffix(".json") + ".trace.json",
    message:
        "Collecting the provenance"
    script:
        "../scripts/write_provenance.py"


rule write_landing:
    input:
        answer="results/{study}/tables/answer.txt",
        summary=table("summary"),
        claims=table("claims"),
        environment="results/{study}/environment.json",
        manifest=MODEL_MANIFEST,
        sources=sources("report/landing.py", "study/job.py"),
    output:
        landing="results/{study}/tables/landing.rst",
    log:
        "results/{study}/logs/write_landing.log",
    conda:
        "../envs/base.yaml"
    params:
        workload=STUDY.config["workload"],
        dtype=STUDY.config["model"]["dtype"],
    message:
        "Writing the report's first page"
    script:
        "../scripts/write_landing.py"


rule render_approach_page:
    input:
        templates=page_templates,
        assets=PAGE_ASSETS,
        summary=table("summary"),
        latency=table("latency_by_length"),
        claims=table("claims"),
        answer="results/{study}/tables/answer.txt",
        records=raw("json", APPROACHES),
        excerpted=excerpted_files,
        package=sources("report/approach_page.py", "study/job.py"),
    output:
        page=report(
            "results/{study}/approaches/{page}.html",
            caption="../report/captions/approach_page.rst",
            category="Approaches",
            labels=lambda wildcards: {"item": page_label(wildcards.page)},
        ),
    log:
        "results/{study}/logs/render_approach_page.{page}.log",
    wildcard_constraints:
        page="|".join(PAGES),
    conda:
        "../envs/base.yaml"
    message:
        "Rendering the page of {wildcards.page}"
    script:
        "../scripts/render_approach_page.py"


rule render_table:
    input:
        table=page_table,
        assets=PAGE_ASSETS,
        sources=sources("report/table_page.py", "study/job.py"),
    output:
        page=report(
            "results/{study}/pages/{table}.html",
            caption="../report/captions/table.rst",
            category=lambda wildcards: TABLE_PAGES[wildcards.table][0],
            labels=lambda wildcards: {"item": TABLE_PAGES[wildcards.table][1]},
        ),
    log:
        "results/{study}/logs/render_table.{table}.log",
    wildcard_constraints:
        table="|".join(TABLE_PAGES),
    conda:
        "../envs/base.yaml"
    params:
        title=lambda wildcards: TABLE_PAGES[wildcards.table][1],
    message:
        "Rendering the table {wildcards.table}"
    script:
        "../scripts/render_table.py"


rule render_record:
    input:
        record="results/{study}/{record}.json",
        assets=PAGE_ASSETS,
        sources=sources("report/record_page.py", "study/job.py"),
    output:
        page=report(
            "results/{study}/pages/{record}.html",
            caption="../report/captions/record.rst",
            category="Environment",
            labels=lambda wildcards: {"item": RECORD_PAGES[wildcards.record]},
        ),
    log:
        "results/{study}/logs/render_record.{record}.log",
    wildcard_constraints:
        record="|".join(RECORD_PAGES),
    conda:
        "../envs/base.yaml"
    params:
        title=lambda wildcards: RECORD_PAGES[wildcards.record],
    message:
        "Rendering the record {wildcards.record}"
    script:
        "../scripts/render_record.py"


rule render_comparison:
    input:
        table="results/compare/{a}_vs_{b}/comparison.csv",
        verdict="results/compare/{a}_vs_{b}/comparison.json",
        assets=PAGE_ASSETS,
        sources=sources("analysis/compare.py", "report/table_page.py", "study/job.py"),
    output:
        page=report(
            "results/compare/{a}_vs_{b}/comparison.html",
            caption="../report/captions/compare.rst",
            category="Claims",
            labels={"item": "{b} compared with {a}"},
        ),
    log:
        "results/compare/{a}_vs_{b}/logs/render_comparison.log",
    conda:
        "../envs/base.yaml"
    message:
        "Rendering the comparison of {wildcards.b} with {wildcards.a}"
    script:
        "../scripts/render_comparison.py"
