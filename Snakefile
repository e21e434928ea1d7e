"""firsttoken: which way of running a language model gives the first token, and every next one, soonest?

Run it:     snakemake --cores 1 --resources gpu=1
Report:     snakemake --report report.html
A GPU study: snakemake --cores 1 --resources gpu=1 --configfile config/studies/llama2-7b.yaml
"""

from snakemake.utils import min_version

min_version("9.27")


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/model.smk"
include: "rules/measure.smk"
include: "rules/analyse.smk"
include: "rules/report.smk"


onstart:
    if problem := shell_problem():
        sys.exit(f"firsttoken: {problem}")
    if any(trigger.name == "CODE" for trigger in workflow.rerun_triggers):
        print(
            "firsttoken: without profiles/default a script's time counts: after `git switch` and back its jobs run "
            "again; add --rerun-triggers mtime params input software-env",
            file=sys.stderr,
        )


# On a cluster these run where Snakemake runs: seconds each and no device, or, for the model, a network.
localrules:
    all,
    evidence,
    fetch_model,
    record_config,
    make_prompts,
    pool_runs,
    summarise_latency,
    write_tables,
    plot,
    render_approach_pages,
    render_tables,
    render_comparison,
    combine_studies,
    compare_studies,
    write_provenance,
    gate_study,
    gate_regression,


# Everything that the study makes, then the gates. Only a gate fails a study, after all results are written.
rule all:
    default_target: True
    input:
        STUDY_OUTPUTS,
        READ_ON_THE_WAY,
        GATES_PASSED,
    message:
        "All results are there, and the gates have passed"


# The same without the gates: the report is also made when a gate has failed.
rule evidence:
    input:
        STUDY_OUTPUTS,
    message:
        "All results are there"
