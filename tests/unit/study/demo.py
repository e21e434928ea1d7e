"""A finished study, demo, of one approach and two processes, with a trace of every job."""

from __future__ import annotations

from pathlib import Path

from firsttoken import files
from firsttoken.pooled_runs import SCHEMA_VERSION
from firsttoken.study.provenance import Provenance
from firsttoken.study.trace import Trace, digests
from fixtures_samples import Known, analyse, make_study

MANIFEST = "results/models/tiny-1.json"


def make_demo() -> None:
    """Write it below results/ in the working directory."""
    study = analyse(make_study(Path("results/demo"), {"baseline": Known()}, requests=2, repeats=2))
    files.write_text(MANIFEST, "{}")
    files.write_text("results/demo/config.yaml", "study: demo\n")
    files.write_text("results/demo/pages/summary.html", "a page")
    files.write_text("results/demo/experiments/ipc.csv", "a table")
    raw = [str(path) for path in study.root.glob("raw/*/*")]
    pooled, positions = [str(study.samples), str(study.records)], str(study.table("equality_positions"))
    jobs = (
        trace("fetch_model", [], [MANIFEST]),
        trace("record_study", [], ["results/demo/config.yaml", "results/demo/environment.json"]),
        trace("benchmark_approach", [MANIFEST], raw),
        trace("pool_runs", [path for path in raw if not path.endswith(".logits")], pooled),
        trace("compare_with_reference", pooled, [positions]),
        trace("render_tables", [], ["results/demo/pages/summary.html"]),
    )
    provenance = Provenance(study="demo", schema_version=SCHEMA_VERSION, jobs=jobs, breaks=())
    files.write_json(study.root / "provenance.json", provenance)


def trace(rule: str, inputs: list[str], outputs: list[str]) -> Trace:
    """A job with the digests of these files as they are."""
    return Trace(
        rule=rule, wildcards={}, params={}, code={}, inputs=digests(inputs), outputs=digests(outputs), started_at=1.0,
        seconds=1.0,
    )  # fmt: skip
