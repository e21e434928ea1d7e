"""What a study makes and where a reader finds it: figures, pages and tables with their titles, and the lists of all files.

Needs: common.smk.
Makes: FIGURES, PAGES and the functions that report.smk, figures.smk and the Snakefile's targets are made of.
"""

FIGURE_TITLES = {  # figure -> title in the report
    "ttft_by_length": "TTFT by prompt length",
    "latency_ecdf": "Distribution of latencies",
    "speedup": "Speedup over baseline",
    "token_time": "Where a token's time goes",
    "run_order": "Samples over run order",
    "setup_time": "Time until ready",
    "break_even": "Break-even",
    "memory": "Peak memory",
    "pool_memory": "Pool memory over prompt lengths",
    "pool_misses": "TTFT at lengths not captured beforehand",
}
FIGURES = [
    name
    for name in FIGURE_TITLES
    if name in EXPERIMENTS or name not in ("pool_memory", "pool_misses")
]


PAGES = [
    "overview",
    "baseline",
    "cuda_graph",
    "jit_only",
    "jit_cuda",
    "tensorrt_llm",
    "compiled_graph",
]
PAGE_ASSETS = [
    str(ROOT / "report" / "assets" / name)
    for name in ("layout.html.j2", "page.css", "page.js")
]
TABLE_PAGES = {  # table -> category and title in the report
    "summary": ("Summary", "Summary"),
    "checklist": ("Summary", "Twelve rules of honest benchmarking"),
    "latency_by_length": ("Latency", "Every statistic by prompt length"),
    "instrument": ("Latency", "The price of measuring"),
    **(
        {"ipc": ("Latency", "The price of two processes")}
        if "ipc" in EXPERIMENTS
        else {}
    ),
    "effects": ("Claims", "Effects of graphs, JIT, late reading and the second process"),
    "claims": ("Claims", "Published claims, judged"),
    "equivalence": ("Claims", "Equality with the reference"),
}
RECORD_PAGES = {  # record -> title in the report
    "environment": "Machine and packages",
    "ceilings": "Ceilings and floors",
}


def page_table(wildcards):
    """The CSV file that a table's page shows."""
    folder = "experiments" if wildcards.table in EXPERIMENTS else "tables"
    return f"results/{wildcards.study}/{folder}/{wildcards.table}.csv"


def figure_inputs(name):
    """What every figure is drawn from, beside its own data: statuses, code, its caption, the page's style."""
    return {
        "summary": table("summary"),
        "sources": sources(
            f"analysis/figures/{name}.py",
            "report/figure_page.py",
            "study/job.py",
        ),
        "assets": PAGE_ASSETS,
        "caption": str(ROOT / "report" / "captions" / f"{name}.rst"),
    }


def figure_outputs(name, category="Latency"):
    """The drawing, its data, and the page with both, which the report shows."""
    return {
        "figure": f"results/{{study}}/figures/{name}.svg",
        "data": f"results/{{study}}/figures/{name}.csv",
        "page": report(
            f"results/{{study}}/figures/{name}.html",
            caption=f"../report/captions/{name}.rst",
            category=category,
            labels={"item": FIGURE_TITLES[name]},
        ),
    }


def page_label(page):
    """`2 baseline`: the report sorts its menu by the alphabet, and the number keeps the order of the comparison."""
    return f"{PAGES.index(page) + 1} {page}"


def page_templates(wildcards):
    """The overview shows all pages' drawings and every page links to all, so each page follows all templates."""
    return [str(ROOT / "report" / "approaches" / f"{page}.md.j2") for page in PAGES]


def excerpted_files(wildcards):
    """The files of ours whose functions the pages show: an edited one renders the pages again, or fails them."""
    named = {
        name
        for template in page_templates(wildcards)
        for name in re.findall(r'source\("([^":]+):', Path(template).read_text())
    }
    return [str(ROOT / "scripts" / "firsttoken" / name) for name in sorted(named)]


def evidence_files():
    """What a study's provenance is about: everything that it makes."""
    results = f"results/{STUDY.name}"
    return [
        f"{results}/samples.parquet",
        f"{results}/records.parquet",
        f"{results}/config.yaml",
        f"{results}/environment.json",
        f"{results}/ceilings.json",
        *(
            table(name)
            for name in ("summary", "equivalence", "claims", "effects", "checklist")
        ),
        f"{results}/tables/answer.txt",
        *experiment_files(),
        f"{results}/tables/landing.rst",
        *(f"{results}/figures/{name}.html" for name in FIGURES),
        *(f"{results}/approaches/{name}.html" for name in PAGES),
        *(f"{results}/pages/{name}.html" for name in (*TABLE_PAGES, *RECORD_PAGES)),
    ]


def study_outputs():
    """Everything that a study makes, the gates left out."""
    return [
        *evidence_files(),
        f"results/{STUDY.name}/provenance.json",
        # Behind the provenance, since this study may itself be one of the pair.
        *(f"results/compare/{pair}/comparison.html" for pair in PAIRS),
    ]


def gate_outputs():
    """The last rules: each passes or ends the run with one line."""
    gates = [
        f"results/{STUDY.name}/gates/{name}"
        for name in ("floors", "equality", "status")
    ]
    return [*gates, *(f"results/compare/{pair}/no_regression" for pair in PAIRS)]
