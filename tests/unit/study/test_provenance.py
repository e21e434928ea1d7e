"""Traces chain results to their inputs; a changed byte anywhere is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from firsttoken.study import verification
from firsttoken.study.job import job, require_gpu_slot
from firsttoken.study.provenance import collect, read_provenance, write_provenance
from firsttoken.study.trace import changed_outputs, digest
from firsttoken.study.verification import verify

CUT_OFF = "half of it"


def run_job(
    rule: str, inputs: list[str], outputs: list[str], text: str = "result", log: str = "", code: tuple[str, ...] = ()
) -> None:
    sys.modules["__main__"].__file__ = f"scripts/{rule}.py"
    snakemake = SimpleNamespace(
        rule=rule,
        input=inputs,
        output=outputs,
        log=[log or f"results/demo/logs/{rule}.log"],
        wildcards={"study": "demo"},
        params={"seed": 1, "lengths": [1, 2], "code": dict.fromkeys(code, "as planned")},
    )
    with job(snakemake):
        for output in outputs:
            if Path(output).is_dir():
                continue
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            if text == CUT_OFF:
                Path(output).write_text(text)
                raise KeyboardInterrupt
            Path(output).write_text(text + output)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", None, raising=False)  # and put back afterwards
    Path("scripts").mkdir()
    Path("rules").mkdir()
    Path("Snakefile").write_text('include: "rules/first.smk"\n')
    Path("rules/first.smk").write_text("rule first:\n")
    Path("scripts/module.py").write_text("x = 1\n")
    Path("scripts/first.py").write_text("y = 1\n")
    Path("corpus.txt").write_text("words")
    run_job("first", ["corpus.txt"], ["results/demo/a.txt"], code=("scripts/module.py",))
    run_job("second", ["results/demo/a.txt"], ["results/demo/b.txt"])
    write_provenance("demo", ["results/demo/b.txt"], [Path("results/demo/logs")], Path("results/demo/provenance.json"))
    return tmp_path


def found(root: Path) -> tuple[str, ...]:
    verdict = verify(root / "results/demo/provenance.json", root)
    return (*verdict.changed, *verdict.missing)


def test_an_untouched_study_is_sound(study: Path) -> None:
    assert found(study) == ()
    collected = collect("demo", ["results/demo/b.txt"], [Path("results/demo/logs")])
    assert [trace.rule for trace in collected.jobs] == ["first", "second"]
    assert set(collected.jobs[0].code) == {"scripts/module.py", "scripts/first.py", "Snakefile", "rules/first.smk"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("corpus.txt", "input"),
        ("scripts/module.py", "script"),
        ("scripts/first.py", "script"),
        ("Snakefile", "script"),
        ("rules/first.smk", "script"),
        ("results/demo/a.txt", "result"),
        ("results/demo/b.txt", "result"),
    ],
)
def test_a_changed_byte_is_named(study: Path, path: str, kind: str) -> None:
    (study / path).write_text("other")
    assert found(study) == (f"{kind} {path}: its bytes have changed",)


def test_a_missing_result_is_named(study: Path) -> None:
    (study / "results/demo/b.txt").unlink()
    assert found(study) == ("result results/demo/b.txt: missing",)


def test_code_that_a_later_commit_changed_is_named_with_its_commit(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = digest(study / "scripts/module.py")
    monkeypatch.setattr(verification, "commit_with", lambda root, path, value: "c0ffee" * 6 if value == known else None)
    (study / "scripts/module.py").write_text("x = 2\n")
    (study / "scripts/first.py").write_text("y = 2\n")
    verdict = verify(study / "results/demo/provenance.json", study)
    assert verdict.earlier == ("script scripts/module.py: as of commit c0ffeec, not as it is now",)
    assert verdict.changed == ("script scripts/first.py: its bytes have changed",)
    assert not verdict.sound


def test_a_result_is_not_excused_by_a_commit(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "commit_with", lambda root, path, value: "c0ffee")
    (study / "results/demo/a.txt").write_text("other")
    assert found(study) == ("result results/demo/a.txt: its bytes have changed",)


def test_jobs_that_saw_different_code_are_both_checked(study: Path) -> None:
    """Seen failing where the last job's digest stood for all."""
    Path("scripts/module.py").write_text("x = 2\n")
    run_job("third", ["results/demo/b.txt"], ["results/demo/c.txt"], code=("scripts/module.py",))
    write_provenance("demo", ["results/demo/c.txt"], [Path("results/demo/logs")], Path("results/demo/provenance.json"))
    assert found(study) == ("script scripts/module.py: its bytes have changed",)


def test_a_study_is_checked_where_it_lies(study: Path) -> None:
    (study / "results/demo").rename(study / "results/moved")
    verdict = verify(study / "results/moved/provenance.json", study)
    assert verdict.sound
    assert verdict.checked == 7


GATE = "results/demo/gates/floors"


EDITED = "trace of second (results/demo/b.txt): not as in provenance.json; one of them was edited, or the job ran again"


def pass_gate() -> None:
    run_job("gate_study", ["results/demo/b.txt", "results/demo/provenance.json"], [GATE], log=f"{GATE}.log")


def test_a_gate_that_was_passed_is_sound(study: Path) -> None:
    pass_gate()
    assert verify(study / "results/demo/provenance.json", study).sound


def test_a_gate_whose_table_changed_since_is_named(study: Path) -> None:
    """The table is made again and with it the provenance; the gate is not."""
    pass_gate()
    run_job("second", ["results/demo/a.txt"], ["results/demo/b.txt"], text="another")
    write_provenance("demo", ["results/demo/b.txt"], [Path("results/demo/logs")], Path("results/demo/provenance.json"))
    assert found(study) == (f"gate {GATE}: it judged other bytes of results/demo/b.txt; run the gate again",)


def test_a_gate_that_was_made_by_hand_is_named(study: Path) -> None:
    (study / "results/demo/gates").mkdir()
    (study / GATE).write_text("passed\n")
    assert found(study) == (f"gate {GATE}: no job left a trace of it; delete it and run the gate again",)


def test_an_edited_gate_is_named(study: Path) -> None:
    pass_gate()
    (study / GATE).write_text("passed?\n")
    assert found(study) == (f"result {GATE}: its bytes have changed",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed": 1', '"seed": 2'),
        ('"rule": "second"', '"rule": "other"'),
        ("b.txt", "c.txt"),
        ('a.txt": "', 'a.txt": "0'),
    ],
)
def test_a_trace_that_was_edited_afterwards_is_named(study: Path, old: str, new: str) -> None:
    trace = study / "results/demo/logs/second.trace.json"
    assert old in trace.read_text()
    trace.write_text(trace.read_text().replace(old, new))
    assert found(study) == (EDITED,)


def test_a_trace_that_was_deleted_is_named(study: Path) -> None:
    (study / "results/demo/logs/second.trace.json").unlink()
    assert found(study) == (EDITED,)


def test_a_hash_that_was_rewritten_in_the_provenance_differs_from_the_trace(study: Path) -> None:
    (study / "results/demo/b.txt").write_text("forged")
    path = study / "results/demo/provenance.json"
    (was,) = (job.outputs["results/demo/b.txt"] for job in read_provenance(path).jobs if job.rule == "second")
    path.write_text(path.read_text().replace(was, digest(study / "results/demo/b.txt")))
    assert found(study) == (EDITED,)


def test_files_that_no_job_made_are_told(study: Path) -> None:
    (study / "results/demo/tables").mkdir()
    (study / "results/demo/tables/mine.csv").write_text("by hand")
    verdict = verify(study / "results/demo/provenance.json", study)
    assert verdict.sound
    assert "not checked, since no job made it: results/demo/tables/mine.csv" in verdict.notes


def test_a_study_from_before_rules_and_configs_were_recorded_says_so_in_one_line(study: Path) -> None:
    for name in ("Snakefile", "rules/first.smk"):
        (study / name).unlink()
    run_job("first", ["corpus.txt"], ["results/demo/a.txt"], code=("scripts/module.py",))
    run_job("second", ["results/demo/a.txt"], ["results/demo/b.txt"])
    write_provenance("demo", ["results/demo/b.txt"], [Path("results/demo/logs")], Path("results/demo/provenance.json"))
    verdict = verify(study / "results/demo/provenance.json", study)
    assert verdict.sound
    assert verdict.notes[0] == "not recorded by this study: Snakefile, config/config.yaml, requirements.lock"


def test_without_git_only_what_differs_from_disk_fails(study: Path) -> None:
    (study / "scripts/module.py").unlink()
    verdict = verify(study / "results/demo/provenance.json", study)
    assert verdict.sound
    assert verdict.not_checked == ("script scripts/module.py: not here, and no git history of this project to look in",)
    (study / "scripts/first.py").write_text("y = 2\n")
    assert found(study) == ("script scripts/first.py: its bytes have changed",)
    assert verdict.notes[-1] == "earlier versions cannot be checked: no git history of this project to look in"


def test_code_that_is_in_no_commit_and_not_on_disk_is_missing(study: Path) -> None:
    for command in (
        ["init", "-q"],
        ["add", "corpus.txt"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=study, check=True)
    (study / "scripts/module.py").unlink()
    (study / "corpus.txt").unlink()
    verdict = verify(study / "results/demo/provenance.json", study)
    assert verdict.missing == ("script scripts/module.py: in no commit and not on disk",)
    assert [line[:31] for line in verdict.earlier] == ["input corpus.txt: as of commit "]


def test_a_file_changed_between_two_jobs_breaks_the_chain(study: Path) -> None:
    Path("results/demo/a.txt").write_text("tampered")
    run_job("third", ["results/demo/a.txt"], ["results/demo/c.txt"])
    with pytest.raises(ValueError, match=r"a\.txt: third read other bytes than first wrote"):
        write_provenance(
            "demo", ["results/demo/c.txt"], [Path("results/demo/logs")], Path("results/demo/provenance.json")
        )


def changed() -> list[str]:
    return changed_outputs([Path("results/demo/logs")])


@pytest.mark.parametrize("damage", ["shorter", "other", "shorter, time kept", "part of a folder"])
def test_an_output_that_is_not_what_its_job_wrote_is_named(study: Path, damage: str) -> None:
    file = Path("results/demo/a.txt")
    if damage == "part of a folder":
        run_job("folder", [], ["results/demo/logits/1.bin", "results/demo/logits/2.bin"])
        run_job("over", [], ["results/demo/logits"])
        assert changed() == []
        Path("results/demo/logits/2.bin").unlink()
        assert changed() == ["results/demo/logits"]
        return
    before = file.stat()
    text = file.read_text()
    file.write_text(text.replace("result", "other!") if damage == "other" else text[:-3])
    if damage == "shorter, time kept":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed() == ["results/demo/a.txt"]


def test_a_copy_of_a_study_with_new_times_and_a_missing_file_are_no_change(study: Path) -> None:
    for path in Path("results").rglob("*.txt"):
        os.utime(path)
    assert changed() == []
    Path("results/demo/b.txt").unlink()  # Snakemake makes it again
    assert changed() == []


def test_a_job_that_was_cut_off_leaves_no_trace_of_its_last_time(study: Path) -> None:
    with pytest.raises(SystemExit):
        run_job("first", [], ["results/demo/a.txt"], text=CUT_OFF)
    assert Path("results/demo/a.txt").read_text() == CUT_OFF
    assert changed() == []


def test_jobs_that_nothing_needs_are_left_out(study: Path) -> None:
    run_job("stale", [], ["results/demo/old.txt"])
    collected = collect("demo", ["results/demo/b.txt"], [Path("results/demo/logs")])
    assert "stale" not in [trace.rule for trace in collected.jobs]


def test_the_last_job_that_wrote_a_file_made_it(study: Path) -> None:
    """Seen failing where a rule had been renamed: the trace under its old name was taken, by the alphabet."""
    run_job("another", ["results/demo/a.txt"], ["results/demo/b.txt"], text="other")
    collected = collect("demo", ["results/demo/b.txt"], [Path("results/demo/logs")])
    assert [trace.rule for trace in collected.jobs] == ["first", "another"]


def test_a_user_error_ends_the_job_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snakemake = SimpleNamespace(log=[str(tmp_path / "x.log")])
    with pytest.raises(SystemExit) as caught, job(snakemake):
        raise ValueError("config key x: found 1")
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"firsttoken: config key x: found 1 (log: {tmp_path}/x.log)\n"
    assert "Traceback" in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize("gpu", [0, None])
def test_a_measuring_job_without_its_slot_refuses(gpu: int | None) -> None:
    with pytest.raises(RuntimeError, match="--resources gpu=1"):
        require_gpu_slot(SimpleNamespace(rule="benchmark_approach", resources={"gpu": gpu}))
