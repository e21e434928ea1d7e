"""The figures: one rule each, so that an edited script draws its own again and no other.

Needs: the tables of analysis.smk, the samples and records of benchmark.smk.
Makes: results/{study}/figures/*.svg, each with its data beside it as CSV and both on one page for the report.
"""


rule plot_ttft_by_length:
    input:
        **figure_inputs("ttft_by_length"),
        latency=table("latency_by_length"),
    output:
        **figure_outputs("ttft_by_length"),
    log:
        "results/{study}/logs/plot_ttft_by_length.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["ttft_by_length"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_ttft_by_length.py"


rule plot_latency_ecdf:
    input:
        **figure_inputs("latency_ecdf"),
        samples="results/{study}/samples.parquet",
    output:
        **figure_outputs("latency_ecdf"),
    log:
        "results/{study}/logs/plot_latency_ecdf.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["latency_ecdf"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_latency_ecdf.py"


rule plot_speedup:
    input:
        **figure_inputs("speedup"),
        latency=table("latency_by_length"),
    output:
        **figure_outputs("speedup"),
    log:
        "results/{study}/logs/plot_speedup.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["speedup"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_speedup.py"


rule plot_token_time:
    input:
        **figure_inputs("token_time"),
        samples="results/{study}/samples.parquet",
    output:
        **figure_outputs("token_time"),
    log:
        "results/{study}/logs/plot_token_time.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["token_time"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_token_time.py"


rule plot_run_order:
    input:
        **figure_inputs("run_order"),
        samples="results/{study}/samples.parquet",
    output:
        **figure_outputs("run_order"),
    log:
        "results/{study}/logs/plot_run_order.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["run_order"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_run_order.py"


rule plot_setup_time:
    input:
        **figure_inputs("setup_time"),
        records="results/{study}/records.parquet",
    output:
        **figure_outputs("setup_time"),
    log:
        "results/{study}/logs/plot_setup_time.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["setup_time"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_setup_time.py"


rule plot_break_even:
    input:
        **figure_inputs("break_even"),
    output:
        **figure_outputs("break_even"),
    log:
        "results/{study}/logs/plot_break_even.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["break_even"],
        new_tokens=STUDY.config["workload"]["new_tokens"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_break_even.py"


rule plot_memory:
    input:
        **figure_inputs("memory"),
        records="results/{study}/records.parquet",
    output:
        **figure_outputs("memory", category="Memory"),
    log:
        "results/{study}/logs/plot_memory.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["memory"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_memory.py"


rule plot_pool_memory:
    input:
        **figure_inputs("pool_memory"),
        experiment="results/{study}/experiments/pool_memory.csv",
    output:
        **figure_outputs("pool_memory", category="Memory"),
    log:
        "results/{study}/logs/plot_pool_memory.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["pool_memory"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_pool_memory.py"


rule plot_pool_misses:
    input:
        **figure_inputs("pool_misses"),
        experiment="results/{study}/experiments/pool_misses.csv",
    output:
        **figure_outputs("pool_misses"),
    log:
        "results/{study}/logs/plot_pool_misses.log",
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        title=FIGURE_TITLES["pool_misses"],
    message:
        "Drawing: {params.title}"
    script:
        "../scripts/plot_pool_misses.py"
