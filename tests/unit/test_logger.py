"""What a run's reader sees of Snakemake's events, and the outcome that is left for `make run`."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_firsttoken as module
from firsttoken.files import read_json
from firsttoken.progress import CLEAR_LINE, STATUS_WIDTH
from snakemake_logger_plugin_firsttoken import LogHandler, LogHandlerSettings, Outcome, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Run:
    """Snakemake's side: sends events; each job takes `seconds`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, dryrun: bool) -> None:
        self.stream, self.outcome_path, self.now_s = stream, folder / "outcome.json", 0.0
        for name in ("VERBOSE", "NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(STATUS_WIDTH, "")  # set by the handler, removed after the test
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(module, "perf_counter", lambda: self.now_s)
        common: Any = SimpleNamespace(dryrun=dryrun, stdout=False)
        self.handler = LogHandler(common, LogHandlerSettings(outcome=str(self.outcome_path)))
        self.jobs = 0

    def send(self, event: LogEvent | None, level: int = logging.INFO, message: str = "", **fields: Any) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
        record.__dict__.update(event=event, **fields)
        self.handler.emit(record)

    def plan(self, **counts: int) -> None:
        stats = {**counts, "total": sum(counts.values())}
        self.send(LogEvent.RUN_INFO, message="Job stats: a table", stats=stats)

    def job(self, rule: str, message: str, seconds: float = 1.0, error_log: Path | None = None) -> None:
        self.jobs += 1
        self.send(LogEvent.JOB_INFO, jobid=self.jobs, rule_name=rule, rule_msg=message)
        self.now_s += seconds
        if error_log:
            logs = [str(error_log)]
            self.send(LogEvent.JOB_ERROR, logging.ERROR, jobid=self.jobs, rule_name=rule, log=logs)
        else:
            self.send(LogEvent.JOB_FINISHED, job_id=self.jobs)

    def outcome(self) -> Outcome:
        self.handler.close()
        self.handler.close()  # Snakemake and the interpreter both do
        return read_json(self.outcome_path, Outcome)


def a_study(run: Run) -> None:
    run.plan(check_model=1, benchmark_approach=3, all=1)
    run.job("check_model", "Hashing the model's files")
    for repeat in (1, 2, 3):
        run.job("benchmark_approach", f"Measuring baseline, process {repeat}", seconds=10.0)
    run.job("all", "All results are there")


def test_in_a_pipe_a_line_a_rule_and_one_after_a_while_no_control_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun=False)
    a_study(run)
    assert run.outcome() == Outcome(complete=True)
    lines = run.stream.getvalue().splitlines()
    assert lines[0].startswith("5 jobs; Snakemake's own output is in ")
    assert lines[1:] == [
        "[0/5] Hashing the model's files",
        "[1/5] Measuring baseline, process 1",
        "[3/5, 11 s left] Measuring baseline, process 3",  # 10 s, and for `all`, not seen yet, the 1 s of the rest
        "[4/5, 1 s left] All results are there",
    ]


def test_the_time_left_counts_what_runs_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: with four GPUs, and for what comes after the measurements, it was four times as long as it took."""
    run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun=False)
    run.plan(check_model=1, benchmark_approach=8, pool_runs=1, draw=9, all=1)
    run.job("check_model", "Hashing the model's files")
    for begun in range(0, 8, 4):
        for job in range(begun, begun + 4):
            run.send(LogEvent.JOB_INFO, jobid=100 + job, rule_name="benchmark_approach", rule_msg=f"Process {job}")
        run.now_s += 40.0
        for job in range(begun, begun + 4):
            run.send(LogEvent.JOB_FINISHED, job_id=100 + job)
    run.job("pool_runs", "Pooling")
    run.job("draw", "Drawing")
    run.handler.close()
    lines = run.stream.getvalue().splitlines()
    assert "[5/20, 44 s left] Process 4" in lines, "4 jobs of 40 s and 11, not seen yet, of 1 s; four at the same time"
    assert "[10/20, 3 s left] Drawing" in lines, "ten of 1 s, the median rule; four at the same time until now"


def test_no_time_left_is_told_before_a_job_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: 38 min for a report that took 18 s, from the first job's first milliseconds."""
    run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun=False)
    run.plan(summarise=1, draw=9, all=1)
    run.now_s += 1.5  # until the first job begins
    for jobid, rule in enumerate(("summarise", "draw")):
        run.send(LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, rule_msg=rule)
        run.now_s += 0.01
    assert [line for line in run.stream.getvalue().splitlines() if line.startswith("[")] == [
        "[0/11] summarise",
        "[0/11] draw",
    ]


def test_on_a_terminal_one_line_is_rewritten_and_titles_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, Terminal(), dryrun=False)
    a_study(run)
    run.outcome()
    shown = run.stream.getvalue()
    assert f"{CLEAR_LINE}[2/5, 21 s left]        Measuring baseline, process 2{CLEAR_LINE}" in shown
    stays = [line.rpartition(CLEAR_LINE)[2] for line in shown.split("\n")]
    assert "\x1b[1mMeasuring baseline, process 1\x1b[0m" in stays and stays[-1] == "", "the last line is cleared"


def test_no_colour_where_it_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, Terminal(), dryrun=False)
    run.handler.close()
    monkeypatch.setenv("NO_COLOR", "1")
    run.handler.__post_init__()
    a_study(run)
    assert "\x1b[1m" not in run.stream.getvalue()


def test_each_failure_once_with_its_own_words_and_nothing_of_snakemakes_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun=False)
    log = tmp_path / "job.log"
    line = f"firsttoken: the disk is full (log: {log})"
    log.write_text(f"2026-01-01 00:00:00,000 ERROR failed\nTraceback\n2026-01-01 00:00:00,001 ERROR {line}\n")
    run.plan(gate_study=3)
    run.job("gate_study", "Gate: floors", error_log=log)
    run.job("gate_study", "Gate: status", error_log=log)
    run.job("gate_study", "Gate: equality", error_log=tmp_path / "none.log")
    run.send(None, logging.ERROR, "Exiting because a job execution failed")
    assert "Exiting" not in run.stream.getvalue()
    other = f"firsttoken: rule gate_study failed (log: {tmp_path}/none.log)"
    assert run.outcome() == Outcome(gates_failed=True, failures=(line, other))
    run.job("pool_runs", "Pooling", error_log=log)
    assert not run.outcome().gates_failed


def test_snakemakes_own_errors_and_warnings_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun=False)
    run.send(None, logging.INFO, "Building DAG of jobs...")
    run.send(None, logging.WARNING, "a file is in the future")
    run.send(LogEvent.ERROR, logging.ERROR, "MissingInputException: x", exception="MissingInputException")
    run.send(LogEvent.ERROR, logging.ERROR, "LockException: y", exception="LockException")
    assert run.outcome() == Outcome()
    assert run.stream.getvalue().splitlines() == ["a file is in the future", "MissingInputException: x"]


def test_nothing_to_do_is_complete_unless_it_was_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dryrun in (False, True):
        run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun)
        run.send(None, message="Nothing to be done (all requested files are present and up to date).")
        assert run.outcome().complete is not dryrun
        assert run.stream.getvalue() == "Nothing to be done: all results are up to date\n"


def test_a_dry_run_lists_every_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun=True)
    a_study(run)
    lines = run.stream.getvalue().splitlines()
    assert lines[0] == "Job stats: a table" and "Measuring baseline, process 2" in lines
    assert not run.outcome().complete
    assert "All results are there" not in lines
    assert run.stream.getvalue().count("A dry run: nothing was made\n") == 1


def test_verbose_leaves_the_terminal_to_snakemake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, io.StringIO(), dryrun=False)
    monkeypatch.setenv("VERBOSE", "1")
    a_study(run)
    assert run.outcome().complete and run.stream.getvalue() == "" and not run.handler.writes_to_stream


@pytest.mark.parametrize(("seconds", "text"), [(99.4, "99 s"), (100, "2 min"), (5999, "100 min"), (9000, "2.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
