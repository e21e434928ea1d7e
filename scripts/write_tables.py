"""In: summary, records, machine, published claims. Out: the answer, the effects, the verdicts on claims, the
checklist, and what the report and a reader's clipboard begin with."""

from pathlib import Path

from firsttoken.analysis.answer import write_answer
from firsttoken.analysis.checklist import write_checklist
from firsttoken.analysis.claims import judge_claims
from firsttoken.analysis.dynamic_work import write_dynamic_work
from firsttoken.analysis.effects import estimate_effects
from firsttoken.analysis.study_tables import StudyTables
from firsttoken.report.conditions import read_conditions
from firsttoken.report.landing import write_landing
from firsttoken.report.summary_files import write_markdown, write_summary_json
from firsttoken.study.job import job, snakemake

if __name__ == "__main__":
    with job(snakemake):
        found = {name: Path(path) for name, path in snakemake.input.items() if isinstance(path, str)}
        out = {name: Path(path) for name, path in snakemake.output.items()}
        workload, dtype = snakemake.params.workload, snakemake.params.dtype
        study, summary = StudyTables.read(found), found["summary"]

        estimate_effects(study, out["effects"])
        write_dynamic_work(study, out["dynamic_work"])
        experiments = {Path(path).stem: path for path in snakemake.input.experiments}
        judge_claims(study, snakemake.input.published, dtype, out["claims"], **experiments)
        write_checklist(study, snakemake.params.figures, out["checklist"])
        write_answer(study, out["answer"])
        conditions = read_conditions(found["environment"], found["manifest"], workload, dtype)
        write_landing(out["answer"], summary, out["claims"], found["records"], conditions, out["landing"])
        write_markdown(summary, conditions, out["markdown"])
        write_summary_json(out["answer"], summary, conditions, out["json"])
