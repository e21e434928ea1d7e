"""What a reader sees: figures, tables and pages; the config as run and the provenance of all.

Needs: the tables of analysis.smk, the samples and records of benchmark.smk.
Makes: results/{study}/figures/*.svg (each with its data as CSV), pages/*.html, config.yaml, provenance.json.
"""


rule plot_ttft_by_length:
    input:
        latency=table("latency_by_length"),
        summary=table("summary"),
        sources=sources(
            "analysis/figures/ttft_by_length.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/ttft_by_length.svg",
        page=report(
            "results/{study}/figures/ttft_by_length.html",
            caption="../report/captions/ttft_by_length.rst",
            category="Latency",
            labels={"figure": "TTFT by prompt length"},
        ),
        data="results/{study}/figures/ttft_by_length.csv",
    log:
        "results/{study}/logs/plot_ttft_by_length.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="TTFT by prompt length",
    message:
        "Drawing: TTFT by prompt length"
    script:
        "../scripts/plot_ttft_by_length.py"


rule plot_latency_ecdf:
    input:
        samples="results/{study}/samples.parquet",
        summary=table("summary"),
        sources=sources(
            "analysis/figures/latency_ecdf.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/latency_ecdf.svg",
        page=report(
            "results/{study}/figures/latency_ecdf.html",
            caption="../report/captions/latency_ecdf.rst",
            category="Latency",
            labels={"figure": "Distribution of latencies"},
        ),
        data="results/{study}/figures/latency_ecdf.csv",
    log:
        "results/{study}/logs/plot_latency_ecdf.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Distribution of latencies",
    message:
        "Drawing: Distribution of latencies"
    script:
        "../scripts/plot_latency_ecdf.py"


rule plot_speedup:
    input:
        latency=table("latency_by_length"),
        summary=table("summary"),
        sources=sources(
            "analysis/figures/speedup.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/speedup.svg",
        page=report(
            "results/{study}/figures/speedup.html",
            caption="../report/captions/speedup.rst",
            category="Latency",
            labels={"figure": "Speedup over baseline"},
        ),
        data="results/{study}/figures/speedup.csv",
    log:
        "results/{study}/logs/plot_speedup.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Speedup over baseline",
    message:
        "Drawing: Speedup over baseline"
    script:
        "../scripts/plot_speedup.py"


rule plot_token_time:
    input:
        samples="results/{study}/samples.parquet",
        summary=table("summary"),
        sources=sources(
            "analysis/figures/token_time.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/token_time.svg",
        page=report(
            "results/{study}/figures/token_time.html",
            caption="../report/captions/token_time.rst",
            category="Latency",
            labels={"figure": "Where a token's time goes"},
        ),
        data="results/{study}/figures/token_time.csv",
    log:
        "results/{study}/logs/plot_token_time.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Where a token's time goes",
    message:
        "Drawing: Where a token's time goes"
    script:
        "../scripts/plot_token_time.py"


rule plot_run_order:
    input:
        samples="results/{study}/samples.parquet",
        summary=table("summary"),
        sources=sources(
            "analysis/figures/run_order.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/run_order.svg",
        page=report(
            "results/{study}/figures/run_order.html",
            caption="../report/captions/run_order.rst",
            category="Latency",
            labels={"figure": "Samples over run order"},
        ),
        data="results/{study}/figures/run_order.csv",
    log:
        "results/{study}/logs/plot_run_order.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Samples over run order",
    message:
        "Drawing: Samples over run order"
    script:
        "../scripts/plot_run_order.py"


rule plot_setup_time:
    input:
        records=raw("json", APPROACHES),
        summary=table("summary"),
        sources=sources(
            "analysis/figures/setup_time.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/setup_time.svg",
        page=report(
            "results/{study}/figures/setup_time.html",
            caption="../report/captions/setup_time.rst",
            category="Latency",
            labels={"figure": "Time until ready"},
        ),
        data="results/{study}/figures/setup_time.csv",
    log:
        "results/{study}/logs/plot_setup_time.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Time until ready",
    message:
        "Drawing: Time until ready"
    script:
        "../scripts/plot_setup_time.py"


rule plot_break_even:
    input:
        summary=table("summary"),
        sources=sources(
            "analysis/figures/break_even.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/break_even.svg",
        page=report(
            "results/{study}/figures/break_even.html",
            caption="../report/captions/break_even.rst",
            category="Latency",
            labels={"figure": "Break-even"},
        ),
        data="results/{study}/figures/break_even.csv",
    log:
        "results/{study}/logs/plot_break_even.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Break-even",
        new_tokens=STUDY.config["workload"]["new_tokens"],
    message:
        "Drawing: Break-even"
    script:
        "../scripts/plot_break_even.py"


rule plot_memory:
    input:
        records=raw("json", APPROACHES),
        summary=table("summary"),
        sources=sources(
            "analysis/figures/memory.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/memory.svg",
        page=report(
            "results/{study}/figures/memory.html",
            caption="../report/captions/memory.rst",
            category="Memory",
            labels={"figure": "Peak memory"},
        ),
        data="results/{study}/figures/memory.csv",
    log:
        "results/{study}/logs/plot_memory.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Peak memory",
    message:
        "Drawing: Peak memory"
    script:
        "../scripts/plot_memory.py"


rule plot_pool_memory:
    input:
        experiment="results/{study}/experiments/pool_memory.csv",
        summary=table("summary"),
        sources=sources(
            "analysis/figures/pool_memory.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/pool_memory.svg",
        page=report(
            "results/{study}/figures/pool_memory.html",
            caption="../report/captions/pool_memory.rst",
            category="Memory",
            labels={"figure": "Pool memory over prompt lengths"},
        ),
        data="results/{study}/figures/pool_memory.csv",
    log:
        "results/{study}/logs/plot_pool_memory.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="Pool memory over prompt lengths",
    message:
        "Drawing: Pool memory over prompt lengths"
    script:
        "../scripts/plot_pool_memory.py"


rule plot_pool_misses:
    input:
        experiment="results/{study}/experiments/pool_misses.csv",
        summary=table("summary"),
        sources=sources(
            "analysis/figures/pool_misses.py",
            "analysis/pages/figure_page.py",
            "study/job.py",
        ),
        assets=PAGE_ASSETS,
    output:
        figure="results/{study}/figures/pool_misses.svg",
        page=report(
            "results/{study}/figures/pool_misses.html",
            caption="../report/captions/pool_misses.rst",
            category="Latency",
            labels={"figure": "TTFT at lengths not captured beforehand"},
        ),
        data="results/{study}/figures/pool_misses.csv",
    log:
        "results/{study}/logs/plot_pool_misses.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title="TTFT at lengths not captured beforehand",
    message:
        "Drawing: TTFT at lengths not captured beforehand"
    script:
        "../scripts/plot_pool_misses.py"


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
        sources=sources("analysis/pages/landing.py", "study/job.py"),
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
        package=sources(  # every module that a page may excerpt
            "runtime/client.py",
            "runtime/generator.py",
            "approaches/_generate.py",
            "approaches/_one_process.py",
            "approaches/tensorrt_llm.py",
            "analysis/pages/approach_page.py",
            "study/job.py",
        ),
    output:
        page=report(
            "results/{study}/approaches/{page}.html",
            caption="../report/captions/approach_page.rst",
            category="Approaches",
            labels={"page": "{page}"},
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
        table="results/{study}/tables/{table}.csv",
        assets=PAGE_ASSETS,
        sources=sources("analysis/pages/tables.py", "study/job.py"),
    output:
        page=report(
            "results/{study}/pages/{table}.html",
            caption="../report/captions/table.rst",
            category=lambda wildcards: TABLE_PAGES[wildcards.table][0],
            labels=lambda wildcards: {"table": TABLE_PAGES[wildcards.table][1]},
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
        sources=sources("analysis/pages/record_page.py", "study/job.py"),
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
        sources=sources(
            "analysis/compare.py", "analysis/pages/tables.py", "study/job.py"
        ),
    output:
        page=report(
            "results/compare/{a}_vs_{b}/comparison.html",
            caption="../report/captions/compare.rst",
            category="Claims",
            labels={"table": "{b} compared with {a}"},
        ),
    log:
        "results/compare/{a}_vs_{b}/logs/render_comparison.log",
    conda:
        "../envs/base.yaml"
    message:
        "Rendering the comparison of {wildcards.b} with {wildcards.a}"
    script:
        "../scripts/render_comparison.py"
