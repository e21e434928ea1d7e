"""What a reader opens: figures, pages of tables and approaches, the first page, the provenance.

Needs: the tables and samples of analyse.smk, the records of measure.smk, report/.
Makes: results/{study}/figures/*, approaches/*.html, pages/*.html, provenance.json; results/combine/{combination}/; the
lists of targets.
"""

FIGURES = {  # figure -> its category and title in the report
    "ttft_by_length": ("Latency", "TTFT by prompt length"),
    "latency_ecdf": ("Latency", "Distribution of latencies"),
    "speedup": ("Latency", "Speedup over baseline"),
    "token_time": ("Latency", "Where a token's time goes"),
    "run_order": ("Latency", "Samples over run order"),
    "setup_time": ("Latency", "Time until ready"),
    "break_even": ("Latency", "Break-even"),
    "memory": ("Memory", "Peak memory"),
    "pool_memory": ("Memory", "Pool memory over prompt lengths"),
    "pool_misses": ("Latency", "TTFT at lengths not captured beforehand"),
}
BY_LENGTH, SAMPLES = [table("latency_by_length")], [f"{RESULTS}/samples.parquet"]
FIGURE_FILES = {  # figure -> what it is drawn from, beside the summary
    **dict.fromkeys(["ttft_by_length", "speedup"], BY_LENGTH),
    **dict.fromkeys(["latency_ecdf", "token_time", "run_order"], SAMPLES),
    **dict.fromkeys(["setup_time", "memory"], [f"{RESULTS}/records.parquet"]),
    "break_even": [],
    **{name: [table(name)] for name in EXPERIMENTS},
}
TABLES = {  # table -> its category and title in the report
    "summary": ("Summary", "Summary"),
    "checklist": ("Summary", "Twelve rules of honest benchmarking"),
    "latency_by_length": ("Latency", "Every statistic by prompt length"),
    "instrument": ("Latency", "The price of measuring"),
    "ipc": ("Latency", "The price of the socket"),
    "clients": ("Latency", "Clients that share one model, or have copies"),
    "effects": (
        "Claims",
        "Effects of graphs, JIT, late reading and the second process",
    ),
    "dynamic_work": ("Latency", "Time of the dynamic operations"),
    "claims": ("Claims", "Published claims, judged"),
    "equivalence": ("Claims", "Equality with the reference"),
    "environment": ("Environment", "Machine and packages"),
    "ceilings": ("Environment", "Ceilings and floors (one run)"),
}
RECORDS = {  # record -> its file; it is shown as a table
    "environment": f"{RESULTS}/environment.json",
    "ceilings": f"{RESULTS}/ceilings.json",
}
for name in EXPERIMENT_MODULES:
    if name not in EXPERIMENTS:
        FIGURES.pop(name, None)
        TABLES.pop(name, None)
PAGES = ["overview", *page_names(ROOT / "report" / "approaches")]
TEMPLATES = [str(ROOT / "report" / "approaches" / f"{page}.md.j2") for page in PAGES]
ASSETS = [
    str(ROOT / "report" / "assets" / name)
    for name in ("layout.html.j2", "page.css", "page.js")
]
# Everything that a study makes, its provenance left out.
EVIDENCE = [
    f"{RESULTS}/samples.parquet",
    f"{RESULTS}/records.parquet",
    *RECORDS.values(),
    *(table(name) for name in TABLES if name not in RECORDS),
    *map(table, EXPERIMENTS),
    f"{RESULTS}/tables/answer.txt",
    f"{RESULTS}/tables/landing.rst",
    f"{RESULTS}/tables/summary.md",
    f"{RESULTS}/tables/summary.json",
    f"{RESULTS}/config.yaml",
    *(f"{RESULTS}/figures/{name}.html" for name in FIGURES),
    *(f"{RESULTS}/pages/{name}.html" for name in TABLES),
    *(f"{RESULTS}/approaches/{name}.html" for name in PAGES),
]
# The comparisons need the provenance, since this study may be one of the pair.
COMPARED = [
    f"results/compare/{pair['a']}_vs_{pair['b']}" for pair in STUDY.config["compare"]
]
STUDY_OUTPUTS = [
    *EVIDENCE,
    f"{RESULTS}/provenance.json",
    *(f"{folder}/comparison.html" for folder in COMPARED),
]
# What is read on the way. Snakemake makes a missing file again only where a target asks for it.
READ_ON_THE_WAY = [
    *(
        name
        for suffix in ("parquet", "json", "tokens.json", "logits")
        for name in raw(suffix)
    ),
    f"{RESULTS}/prompts.json",
    f"{RESULTS}/reference.safetensors",
    f"{RESULTS}/model_check.json",
]
GATES_PASSED = [
    *(f"{RESULTS}/gates/{gate}" for gate in GATES),
    *(f"{folder}/no_regression" for folder in COMPARED),
]


rule plot:
    input:
        files=lambda wildcards: FIGURE_FILES[wildcards.figure],
        summary=table("summary"),
        assets=ASSETS,
        sources=lambda wildcards: sources(
            "plot.py", f"analysis/figures/{wildcards.figure}.py"
        ),
    output:
        figure="results/{study}/figures/{figure}.svg",
        data="results/{study}/figures/{figure}.csv",
        page=report(
            "results/{study}/figures/{figure}.html",
            caption="../report/captions/figure.rst",
            category=lambda wildcards: FIGURES[wildcards.figure][0],
            labels=lambda wildcards: {"item": FIGURES[wildcards.figure][1]},
        ),
    log:
        "results/{study}/logs/plot.{figure}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../envs/base.yaml"
    params:
        order=APPROACHES,
        new_tokens=WORKLOAD["new_tokens"],
        title=lambda wildcards: FIGURES[wildcards.figure][1],
        caption=figure_caption,
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/plot.py"


rule render_approach_page:
    input:
        templates=TEMPLATES,  # all: the overview shows all pages' drawings, and every page links to all
        assets=ASSETS,
        summary=table("summary"),
        latency=table("latency_by_length"),
        claims=table("claims"),
        answer="results/{study}/tables/answer.txt",
        records="results/{study}/records.parquet",
        excerpted=excerpted_files(TEMPLATES),
        sources=sources("render_approach_page.py"),
    output:
        page=report(
            "results/{study}/approaches/{page}.html",
            caption="../report/captions/approach_page.rst",
            category="Approaches",
            # Numbered, since the report sorts its menu by the alphabet.
            labels=lambda wildcards: {
                "item": f"{PAGES.index(wildcards.page) + 1} {wildcards.page}"
            },
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
        table=lambda wildcards: RECORDS.get(wildcards.table, table(wildcards.table)),
        # Its table has no column of statuses.
        environment=lambda wildcards: (
            RECORDS["environment"] if wildcards.table == "clients" else []
        ),
        assets=ASSETS,
        sources=sources("render_table.py"),
    output:
        page=report(
            "results/{study}/pages/{table}.html",
            caption="../report/captions/table.rst",
            category=lambda wildcards: TABLES[wildcards.table][0],
            labels=lambda wildcards: {"item": TABLES[wildcards.table][1]},
        ),
    log:
        "results/{study}/logs/render_table.{table}.log",
    wildcard_constraints:
        table="|".join(TABLES),
    conda:
        "../envs/base.yaml"
    params:
        title=lambda wildcards: TABLES[wildcards.table][1],
    message:
        "Rendering the table {wildcards.table}"
    script:
        "../scripts/render_table.py"


rule render_comparison:
    input:
        table="results/compare/{a}_vs_{b}/comparison.csv",
        verdict="results/compare/{a}_vs_{b}/comparison.json",
        assets=ASSETS,
        sources=sources("render_comparison.py"),
    output:
        page=report(
            "results/compare/{a}_vs_{b}/comparison.html",
            caption="../report/captions/compare.rst",
            category="Claims",
            labels={"item": "{b} compared with {a}"},
        ),
        markdown="results/compare/{a}_vs_{b}/comparison.md",
    log:
        "results/compare/{a}_vs_{b}/logs/render_comparison.log",
    conda:
        "../envs/base.yaml"
    message:
        "Rendering the comparison of {wildcards.b} with {wildcards.a}"
    script:
        "../scripts/render_comparison.py"


# Of finished studies, which `make combine` lists in studies.txt: their names together may be too long for a folder.
rule combine_studies:
    input:
        studies="results/combine/{combination}/studies.txt",
        provenances=combined_studies,
        bounds=f"{CONFIG}/equality_bounds.csv",
        assets=ASSETS,
        sources=sources("combine_studies.py"),
    output:
        hosts="results/combine/{combination}/hosts.csv",
        table="results/combine/{combination}/combined.csv",
        words="results/combine/{combination}/combined.txt",
        page="results/combine/{combination}/combined.html",
    log:
        "results/combine/{combination}/combine_studies.log",
    conda:
        "../envs/base.yaml"
    message:
        "Combining the studies in {input.studies}"
    script:
        "../scripts/combine_studies.py"


rule write_provenance:
    input:
        results=EVIDENCE,
        sources=sources("write_provenance.py"),
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
        model_trace=f"{MODEL_DIR}.trace.json",
    message:
        "Collecting the provenance"
    script:
        "../scripts/write_provenance.py"
