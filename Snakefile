"""firsttoken: which way of running a language model gives the first token, and every next one, soonest?

Run it:     snakemake --cores 1 --resources gpu=1
Report:     snakemake --report report.html
A GPU study: snakemake --cores 1 --resources gpu=1 --configfile config/studies/llama2-7b.yaml
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/outputs.smk"
include: "rules/model.smk"
include: "rules/engine.smk"
include: "rules/benchmark.smk"
include: "rules/analysis.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


# Everything that the study makes, then the gates: they alone may fail a study, and by then all evidence lies on disk.
rule all:
    default_target: True
    input:
        study_outputs(),
        gate_outputs(),


# The same without the gates: what the report needs, also after a gate has failed.
rule evidence:
    input:
        study_outputs(),
