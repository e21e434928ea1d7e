"""What a reader sees: figures, tables and pages; the config as run and the provenance of all.

Needs: the tables of analysis.smk, the samples and records of benchmark.smk.
Makes: results/{study}/figures/*.svg (each with its data as CSV), pages/*.html, config.yaml, provenance.json.
"""


rule plot_ttft_by_length:
    input:
        latency=table("latency_by_length"),
        summary=table("summary"),
        sources=sources("analysis/figures/ttft_by_length.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/ttft_by_length.svg",
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
    message:
        "Drawing: TTFT by prompt length"
    script:
        "../scripts/plot_ttft_by_length.py"


rule plot_latency_ecdf:
    input:
        samples="results/{study}/samples.parquet",
        summary=table("summary"),
        sources=sources("analysis/figures/latency_ecdf.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/latency_ecdf.svg",
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
    message:
        "Drawing: Distribution of latencies"
    script:
        "../scripts/plot_latency_ecdf.py"


rule plot_speedup:
    input:
        latency=table("latency_by_length"),
        summary=table("summary"),
        sources=sources("analysis/figures/speedup.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/speedup.svg",
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
    message:
        "Drawing: Speedup over baseline"
    script:
        "../scripts/plot_speedup.py"


rule plot_token_time:
    input:
        samples="results/{study}/samples.parquet",
        summary=table("summary"),
        sources=sources("analysis/figures/token_time.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/token_time.svg",
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
    message:
        "Drawing: Where a token's time goes"
    script:
        "../scripts/plot_token_time.py"


rule plot_run_order:
    input:
        samples="results/{study}/samples.parquet",
        summary=table("summary"),
        sources=sources("analysis/figures/run_order.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/run_order.svg",
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
    message:
        "Drawing: Samples over run order"
    script:
        "../scripts/plot_run_order.py"


rule plot_setup_time:
    input:
        records=raw("json", APPROACHES),
        summary=table("summary"),
        sources=sources("analysis/figures/setup_time.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/setup_time.svg",
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
    message:
        "Drawing: Time until ready"
    script:
        "../scripts/plot_setup_time.py"


rule plot_break_even:
    input:
        summary=table("summary"),
        sources=sources("analysis/figures/break_even.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/break_even.svg",
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
        new_tokens=STUDY.config["workload"]["new_tokens"],
    message:
        "Drawing: Break-even"
    script:
        "../scripts/plot_break_even.py"


rule plot_memory:
    input:
        records=raw("json", APPROACHES),
        summary=table("summary"),
        sources=sources("analysis/figures/memory.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/memory.svg",
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
    message:
        "Drawing: Peak memory"
    script:
        "../scripts/plot_memory.py"


rule plot_pool_memory:
    input:
        experiment="results/{study}/experiments/pool_memory.csv",
        summary=table("summary"),
        sources=sources("analysis/figures/pool_memory.py", "study/job.py"),
    output:
        figure=report(
            "results/{study}/figures/pool_memory.svg",
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
    message:
        "Drawing: Pool memory over prompt lengths"
    script:
        "../scripts/plot_pool_memory.py"


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
