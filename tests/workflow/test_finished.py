"""What can be done with a finished study: run it again, check it, report it, compare it; and what a failure leaves."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys

import pytest

from firsttoken.files import sha256_file
from workflow.project import Project

pytestmark = pytest.mark.workflow


def script(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=project.folder, capture_output=True, text=True, timeout=600)


def test_the_summary_has_the_approaches_in_order_with_honest_statuses(finished: Project) -> None:
    with (finished.folder / "results/tiny/tables/summary.csv").open(encoding="utf-8") as stream:
        found = [(row["approach"], row["status"]) for row in csv.DictReader(stream)]
    assert found == [
        ("baseline", "measured"),
        ("jit_only", "measured"),
        ("cuda_graph", "emulated"),
        ("tensorrt_llm", "unavailable"),
    ]


def test_no_approach_runs_ahead_of_the_others(finished: Project) -> None:
    records = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (finished.folder / "results/tiny/raw").glob("*/[0-9].json")
    ]
    ran = sorted(
        (run["started_at"], run["repeat"], run["approach"])
        for run in records
        if run["status"] in ("measured", "emulated")
    )
    repeats = [repeat for _, repeat, _ in ran]
    assert repeats == sorted(repeats) and len(repeats) == 5 * 2
    orders = {tuple(name for _, at, name in ran if at == repeat) for repeat in repeats}
    assert len(orders) == 2, "each repeat has an order of its own"


def test_no_approach_begins_with_what_another_has_compiled(finished: Project) -> None:
    """Seen failing: one folder of compiled code for the study."""
    provenance = json.loads((finished.folder / "results/tiny/provenance.json").read_text(encoding="utf-8"))
    folders: dict[str, set[str]] = {}
    for job in provenance["jobs"]:
        if job["rule"] == "benchmark_approach":
            approach, folder = job["wildcards"]["approach"], job["params"]["plan"]["compile_cache_dir"]
            folders.setdefault(folder, set()).add(approach)
    assert len(folders) >= 4
    assert [approaches for approaches in folders.values() if len(approaches) > 1] == []


@pytest.mark.browser
def test_the_report_of_a_real_study_opens_offline(project: Project) -> None:
    from report.browser import chromium, open_page, screenshot

    result = project.snakemake("--report", "report.html")
    assert result.returncode == 0, result.stderr[-3000:]
    with chromium() as browser:
        page, noise = open_page(browser, project.folder / "report.html")
        page.wait_for_selector("nav")
        for category in ("Approaches", "Claims", "Environment", "Latency", "Memory", "Summary"):
            assert page.locator("nav").get_by_text(category, exact=True).count() == 1, category
        landing = page.locator("#app").inner_text()
        screenshot(page, "real-report-landing")
        assert "Nothing here was measured on a GPU" in landing
        links = page.locator(".open-pages a").all_inner_texts()
        assert links[:2] == ["overview", "baseline"]
        for link in links:
            page.reload()
            page.locator(".open-pages a").get_by_text(link, exact=True).click()
            page.wait_for_selector("iframe")
        assert noise.errors == []
        assert noise.requests == []


EDITED = {  # an edit of each kind of file -> what verify calls it
    "Snakefile": "script",
    "rules/measure.smk": "script",
    "config/config.yaml": "input",
    "config/config.schema.yaml": "input",
    "config/studies/tiny.yaml": "input",
    "config/claims/arxiv-2604.23467.yaml": "input",
    "config/equality_bounds.csv": "input",
    "requirements.lock": "input",
    "envs/base.yaml": "input",
    "scripts/firsttoken/study/job.py": "script",
    "results/tiny/config.yaml": "result",
    "results/tiny/tables/claims.csv": "result",
    "results/tiny/gates/floors": "result",
}


def test_verify_names_every_edit(project: Project) -> None:
    sound = script(project, "scripts/verify.py", "tiny")
    assert sound.returncode == 0, sound.stdout
    assert "not recorded" not in sound.stdout and "no job made it" not in sound.stdout, sound.stdout
    for path in EDITED:
        project.append(path, "\n")
    project.edit("results/tiny/logs/record_config.trace.json", '"rule": "record_config"', '"rule": "record_configs"')
    (project.folder / "results/tiny/gates/mine").write_text("passed\n", encoding="utf-8")
    result = script(project, "scripts/verify.py", "tiny")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert [
        f"{kind} {path}" for path, kind in EDITED.items() if f"{kind} {path}: its bytes have changed" not in lines
    ] == []
    assert any(line.startswith("trace of record_config (results/tiny/config.yaml): not as in") for line in lines)
    assert any(line.startswith("gate results/tiny/gates/mine: no job left a trace of it") for line in lines)
    digest = sha256_file(project.folder / "results/tiny/provenance.json")
    assert lines[-1] == sound.stdout.splitlines()[-1] == f"SHA-256 of provenance.json: {digest}"


def test_the_report_needs_neither_weights_nor_snakemakes_own_memory(project: Project) -> None:
    shutil.rmtree(project.folder / "results" / "models")
    shutil.rmtree(project.folder / ".snakemake")
    (project.folder / "results" / "tiny").rename(project.folder / "results" / "moved")
    result = script(project, "scripts/run.py", "--report-only", "results/moved")
    assert result.returncode == 0, result.stderr[-3000:]
    assert (project.folder / "results/moved/report.html").stat().st_size > 1_000_000
    assert "baseline" in result.stdout
    digest = sha256_file(project.folder / "results/moved/provenance.json")
    assert result.stdout.endswith(f"SHA-256 of provenance.json: {digest}\n")


def test_two_processes_are_too_few_to_compare_and_the_evidence_stays(project: Project) -> None:
    shutil.copytree(project.folder / "results/tiny", project.folder / "results/other", copy_function=shutil.copy2)
    result = script(project, "scripts/run.py", "--compare", "tiny", "other")
    assert result.returncode != 0
    folder = project.folder / "results/compare/tiny_vs_other"
    assert (folder / "comparison.csv").exists()
    assert (folder / "comparison.html").exists()


def test_studies_of_three_gpus_are_combined_and_of_one_gpu_refused(project: Project) -> None:
    studies = ["reference/shipped", "here", "a-study-with-a-long-name-" * 4]
    for place, study in enumerate([*studies, "again"]):
        copy = project.folder / "results" / study
        shutil.copytree(project.folder / "results/tiny", copy, copy_function=shutil.copy2)
        environment = json.loads((copy / "environment.json").read_text(encoding="utf-8"))
        uuid = f"GPU-{min(place, 2)}"
        environment["gpu"] = {"name": "NVIDIA H200", "uuid": uuid, "memory_bytes": 1, "compute_capability": "9.0"}
        (copy / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    done = script(project, "scripts/run.py", "--combine", *studies)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "3 hosts (NVIDIA H200): a-study-with" in done.stdout and "its factor is 4.3 for 3 hosts" in done.stdout
    folder = project.folder / done.stdout.strip().rpartition("Combination: ")[2].removesuffix("/combined.html")
    assert len(folder.name) <= 100
    with (folder / "combined.csv").open(encoding="utf-8") as stream:
        row = next(row for row in csv.DictReader(stream) if row["approach"] == "baseline")
    assert row["n_hosts"] == "3" and float(row["ttft_mean_low_ms"]) == pytest.approx(float(row["ttft_mean_ms"]))
    page = (folder / "combined.html").read_text(encoding="utf-8")
    assert page.count("<table") == 4 and "reference/shipped (GPU-0)" in page
    refused = script(project, "scripts/run.py", "--combine", "again", studies[2])
    assert refused.returncode == 1
    assert f"results/{studies[2]} and results/again were measured on the same GPU (GPU-2)" in refused.stderr
    missing = script(project, "scripts/run.py", "--combine", "here", "nowhere")
    assert (
        missing.returncode == 1 and "'nowhere' is no finished study; found in results/: a-study-with" in missing.stderr
    )
