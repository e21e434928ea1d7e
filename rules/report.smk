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
    "launches": ("Latency", "A next token, launch by launch"),
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
        code=lambda wildcards: code(
            "plot.py", f"analysis/figures/{wildcards.figure}.py"
        ),
        order=APPROACHES,
        new_tokens=WORKLOAD["new_tokens"],
        title=lambda wildcards: FIGURES[wildcards.figure][1],
        caption=figure_caption,
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/plot.py"


# All pages of a kind in one job: each takes milliseconds, and a job seconds.
rule render_approach_pages:
    input:
        templates=TEMPLATES,
        assets=ASSETS,
        summary=table("summary"),
        latency=table("latency_by_length"),
        claims=table("claims"),
        answer="results/{study}/tables/answer.txt",
        records="results/{study}/records.parquet",
        excerpted=excerpted_files(TEMPLATES),
    output:
        [
            report(
                f"results/{{study}}/approaches/{page}.html",
                caption=f"../report/captions/{'overview' if page == 'overview' else 'approach_page'}.rst",
                category="Approaches",
                # Numbered, since the report sorts its menu by the alphabet.
                labels={"item": f"{number:02} {page}"},
            )
            for number, page in enumerate(PAGES, 1)
        ],
    log:
        "results/{study}/logs/render_approach_pages.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("render_approach_pages.py"),
    message:
        "Rendering the pages of the approaches"
    script:
        "../scripts/render_approach_pages.py"


rule render_tables:
    input:
        tables=[RECORDS.get(name, table(name)) for name in TABLES],
        environment=RECORDS["environment"],
        assets=ASSETS,
    output:
        [
            report(
                f"results/{{study}}/pages/{name}.html",
                caption=f"../report/captions/tables/{name}.rst",
                category=category,
                labels={"item": title},
            )
            for name, (category, title) in TABLES.items()
        ],
    log:
        "results/{study}/logs/render_tables.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("render_tables.py"),
        titles=[title for _, title in TABLES.values()],
    message:
        "Rendering the tables"
    script:
        "../scripts/render_tables.py"


rule render_comparison:
    input:
        table="results/compare/{a}_vs_{b}/comparison.csv",
        verdict="results/compare/{a}_vs_{b}/comparison.json",
        assets=ASSETS,
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
    params:
        code=code("render_comparison.py"),
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
    output:
        hosts="results/combine/{combination}/hosts.csv",
        table="results/combine/{combination}/combined.csv",
        words="results/combine/{combination}/combined.txt",
        page="results/combine/{combination}/combined.html",
    log:
        "results/combine/{combination}/combine_studies.log",
    conda:
        "../envs/base.yaml"
    params:
        code=code("combine_studies.py"),
    message:
        "Combining the studies in {input.studies}"
    script:
        "../scripts/combine_studies.py"


rule write_provenance:
    input:
        results=EVIDENCE,
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
        code=code("write_provenance.py"),
        model_trace=f"{MODEL_DIR}.trace.json",
    message:
        "Collecting the provenance"
    script:
        "../scripts/write_provenance.py"
