"""In: summary, records, machine, published claims. Out: the answer, the effects, the verdicts on claims, the
checklist, and what the report and a reader's clipboard begin with."""

from pathlib import Path
from typing import Any

from firsttoken.analysis.answer import write_answer
from firsttoken.analysis.checklist import write_checklist
from firsttoken.analysis.claims import judge_claims
from firsttoken.analysis.dynamic_work import write_dynamic_work
from firsttoken.analysis.effects import estimate_effects
from firsttoken.report.conditions import read_conditions
from firsttoken.report.landing import write_landing
from firsttoken.report.summary_files import write_markdown, write_summary_json
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        found = {name: Path(path) for name, path in snakemake.input.items() if isinstance(path, str)}
        out = {name: Path(path) for name, path in snakemake.output.items()}
        summary, records, environment = found["summary"], found["records"], found["environment"]
        estimated = {name: found[name] for name in ("summary", "latency_by_length", "process_statistics")}
        machine: dict[str, Any] = {"environment": environment, "manifest": found["manifest"]}
        workload, dtype = snakemake.params.workload, snakemake.params.dtype

        estimate_effects(summary, found["process_statistics"], records, out["effects"])
        write_dynamic_work(found["samples"], summary, records, out["dynamic_work"])
        judge_claims(
            published=snakemake.input.published,
            **estimated,
            **machine,
            dtype=dtype,
            out_csv=out["claims"],
            **{Path(path).stem: path for path in snakemake.input.experiments},
        )
        write_checklist(
            **estimated,
            instrument=found["instrument"],
            records=records,
            environment=environment,
            ceilings=found["ceilings"],
            figures=snakemake.params.figures,
            out_csv=out["checklist"],
        )
        write_answer(**estimated, **machine, records=records, out_txt=out["answer"])
        conditions = read_conditions(**machine, workload=workload, dtype=dtype)
        write_landing(out["answer"], summary, out["claims"], records, conditions, out["landing"])
        write_markdown(summary, conditions, out["markdown"])
        write_summary_json(out["answer"], summary, conditions, out["json"])
