"""Snakemake's events as a short account of a run; Snakemake's own output goes into its log file.

`make run` chooses this logger. On a terminal one line is rewritten: how far the study is, how long it will still take,
what runs. The first job of each rule gets a line that stays, and so does a measurement after a while without one.
"""

import logging
import os
import re
import shutil
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from firsttoken.files import write_json
from firsttoken.plan import Record
from firsttoken.progress import CLEAR_LINE, STATUS_WIDTH

TITLE_INTERVAL_S = 20.0  # at least, between two lines of measurements
WIDTH = 24  # "[123/456, 100 min left]", then what the running job shows
BOLD, RED, YELLOW = 1, 31, 33
MEASURING = "benchmark_approach"  # no time left is shown before one of these has run: they take most of it
RESULTS = ("all", "evidence")  # rules that say that all is there
UNSEEN_S = 2.0  # of a job that makes a table, figure or page, before one has run
NOTHING_TO_DO = "Nothing to be done"
JOB_ERROR = re.compile(r"^\S+ \S+ ERROR (firsttoken: .*)", re.MULTILINE)


class Outcome(Record, frozen=True, kw_only=True):
    """How a run of Snakemake ended."""

    complete: bool = False  # all that the study makes is there, and its gates have passed
    gates_failed: bool = False  # all is there, and gates failed
    failures: tuple[str, ...] = ()  # a line each
    log: str = ""  # Snakemake's own output


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options of this logger. Snakemake calls the types of the fields, which are therefore no strings here."""

    outcome: str = field(default="", metadata={"help": "the file that the outcome is written to, as JSON"})


@dataclass
class Job:
    """A job that runs."""

    rule: str
    begun_s: float


class LogHandler(LogHandlerBase):
    """With VERBOSE in the environment it only writes the outcome, and Snakemake shows its own output."""

    def __post_init__(self) -> None:
        self.dryrun = self.common_settings.dryrun
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        terminal = self.writes_to_stream and self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.live = terminal and not self.dryrun
        self.colour = terminal and not os.environ.get("NO_COLOR")
        self.planned: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.seen: set[str] = set()  # rules of which a job has started
        self.running: dict[int, Job] = {}
        self.begun_s = 0.0
        self.durations_s: defaultdict[str, list[float]] = defaultdict(list)
        self.failures: dict[int, tuple[str, str]] = {}  # job -> its rule, the line
        self.errors: list[str] = []  # of Snakemake
        self.nothing_to_do = False
        self.title_s = float("-inf")
        self.log = ""
        if self.writes_to_stream:
            os.environ[STATUS_WIDTH] = str(WIDTH if self.live else 0)

    @property
    def writes_to_stream(self) -> bool:
        return not os.environ.get("VERBOSE")

    writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True

    def emit(self, record: logging.LogRecord) -> None:
        """Take one of Snakemake's events."""
        try:
            self._take(getattr(record, "event", None), record.getMessage(), record.__dict__)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write the outcome; what Snakemake says of an error is shown where no job failed."""
        self._clear()
        if not self.failures:
            self._print("\n".join(self.errors), RED)
        if self.dryrun and self.planned:
            self._print("A dry run: nothing was made")
            self.planned.clear()  # Snakemake closes its handlers twice
        self.errors = []
        failed_rules = {rule for rule, _ in self.failures.values()}
        outcome = Outcome(
            complete=not self.dryrun and (self.nothing_to_do or self.finished["all"] > 0),
            gates_failed=bool(failed_rules) and all(rule.startswith("gate_") for rule in failed_rules),
            failures=tuple(dict.fromkeys(line for _, line in self.failures.values())),
            log=self.log,
        )
        if isinstance(self.settings, LogHandlerSettings) and self.settings.outcome:
            write_json(Path(self.settings.outcome), outcome)
        super().close()

    def _take(self, event: LogEvent | None, message: str, fields: dict[str, Any]) -> None:
        level = fields["levelno"]
        if event == LogEvent.RUN_INFO and not self.planned:
            self._begin(message, fields["stats"])
        elif event == LogEvent.JOB_INFO:
            self.running[fields["jobid"]] = Job(fields["rule_name"], perf_counter())
            if not (self.dryrun and fields["rule_name"] in RESULTS):
                self._show_job(fields["rule_name"], fields["rule_msg"] or fields["rule_name"])
        elif event == LogEvent.JOB_FINISHED:
            job = self.running.pop(fields["job_id"])
            self.finished[job.rule] += 1
            self.durations_s[job.rule].append(perf_counter() - job.begun_s)
            self.failures.pop(fields["job_id"], None)  # it ran again
        elif event == LogEvent.JOB_ERROR:
            self.running.pop(fields["jobid"], None)
            self.failures[fields["jobid"]] = (fields["rule_name"], failure(fields["rule_name"], fields["log"]))
        elif message.startswith(NOTHING_TO_DO):
            self.nothing_to_do = True
            self._print("Nothing to be done: all results are up to date")
        elif fields.get("exception") == "LockException":
            pass  # the workflow has said who holds the lock
        elif level >= logging.ERROR:
            self.errors.append(message)
        elif level >= logging.WARNING:
            self._print(message, YELLOW)

    def _begin(self, table: str, counts: dict[str, int]) -> None:
        self.planned, self.begun_s = Counter(counts), perf_counter()
        for handler in logging.getLogger("snakemake.logging").handlers:
            if isinstance(handler, logging.FileHandler):
                self.log = os.path.relpath(handler.baseFilename)
        if self.dryrun:
            self._print(table)
        else:
            self._print(f"{counts['total']} jobs; Snakemake's own output is in {self.log}")

    def _show_job(self, rule: str, message: str) -> None:
        first, now_s = rule not in self.seen, perf_counter()
        self.seen.add(rule)
        if self.dryrun or first or (rule == MEASURING and now_s - self.title_s >= TITLE_INTERVAL_S):
            self.title_s = now_s
            self._print(message if self.live or self.dryrun else f"{self._status()} {message}", BOLD)
        if self.live:
            columns = shutil.get_terminal_size().columns - 1
            line = f"{self._status()[: WIDTH - 1]:<{WIDTH}}{message}"
            self.stream.write(f"{CLEAR_LINE}{line[:columns]}")
            self.stream.flush()

    def _status(self) -> str:
        left_s = self._left_s()
        left = "" if left_s is None else f", {duration(left_s)} left"
        return f"[{self.finished.total()}/{self.planned['total']}{left}]"

    def _left_s(self) -> float | None:
        """A rule's jobs take as long as those before, of a rule not seen yet as long as those of the median rule beside
        the measurements; and as many run at the same time."""
        now_s = perf_counter()
        ages_s = [now_s - job.begun_s for job in self.running.values()]
        done_s = sum(map(sum, self.durations_s.values())) + sum(ages_s)
        if not self.finished or (self.planned[MEASURING] and not self.durations_s[MEASURING]):
            return None  # the little that is known would be multiplied
        means_s = {rule: fmean(times) for rule, times in self.durations_s.items() if times}
        typical_s = median([mean for rule, mean in means_s.items() if rule != MEASURING] or [UNSEEN_S])
        left = self.planned - self.finished - Counter(total=self.planned["total"])
        left_s = sum(count * means_s.get(rule, typical_s) for rule, count in left.items())
        return max(left_s - sum(ages_s), 0.0) * (now_s - self.begun_s) / done_s

    def _print(self, text: str, code: int = 0) -> None:
        if text and self.writes_to_stream:
            self._clear()
            print(f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text, file=self.stream, flush=True)

    def _clear(self) -> None:
        if self.live:
            self.stream.write(CLEAR_LINE)
            self.stream.flush()


def failure(rule: str, logs: list[str]) -> str:
    """The line with which a job failed, from its log; or a line that names its log, where it could not write one."""
    for log in filter(Path.exists, map(Path, logs)):
        if said := JOB_ERROR.findall(log.read_text(encoding="utf-8", errors="replace")):
            return str(said[-1])
    return f"firsttoken: rule {rule} failed (log: {', '.join(logs)})"


def duration(seconds: float) -> str:
    """About how long: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
