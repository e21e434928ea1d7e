"""The progress line: live on a terminal, quiet in a log, and never more often than its interval."""

from __future__ import annotations

import io
import sys

import pytest

from firsttoken import progress as module
from firsttoken.progress import STATUS_WIDTH, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "perf_counter", found)
    return found


def test_a_terminal_gets_one_line_that_is_rewritten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress("jit_cuda #3", total=40)
    progress.note("loading")
    progress.note("measuring")
    for length in (100, 10, 100, 100, 100):
        clock.now_s += 0.5
        progress.update(f"TTFT at {length} tokens")
    progress.close()
    text = terminal.getvalue()
    assert "\n" not in text and "jit_cuda #3: loading" in text
    last = text.split("\r\x1b[K")[-2]
    assert last == "jit_cuda #3: 5/40, TTFT at 100 tokens, 18 s left"
    assert text.endswith("\r\x1b[K"), "the line is cleared at the end"


def test_a_log_gets_a_line_every_ten_seconds_and_no_control_codes(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    progress = Progress("baseline #1", total=250)
    progress.note("loading")
    for _ in range(250):
        clock.now_s += 0.125
        progress.update("TTFT at 10 tokens")
    progress.close()
    lines = log.getvalue().splitlines()
    assert len(lines) == 3 and "\x1b" not in log.getvalue()
    assert lines[0].startswith("baseline #1: 80/250, ") and lines[0].endswith("21 s left")


def test_a_short_run_is_silent_in_a_log(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    progress = Progress("baseline #1", total=5)
    for _ in range(5):
        clock.now_s += 1.0
        progress.update("")
    progress.close()
    assert log.getvalue() == ""


def test_requests_between_two_lines_write_nothing(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress("baseline #1", total=5)
    for _ in range(5):
        clock.now_s += 0.01
        progress.update("")
    assert terminal.getvalue() == ""


def test_under_our_logger_it_leaves_the_left_of_the_line_alone(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv(STATUS_WIDTH, "24")
    monkeypatch.setenv("COLUMNS", "40")
    progress = Progress("baseline #1", total=5)
    progress.note("measuring")
    progress.close()
    assert terminal.getvalue() == "\r\x1b[24C\x1b[Kbaseline #1: me\r\x1b[24C\x1b[K"


def test_under_our_logger_a_log_gets_nothing(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setenv(STATUS_WIDTH, "0")
    progress = Progress("baseline #1", total=5)
    for _ in range(5):
        clock.now_s += 20.0
        progress.update("TTFT at 10 tokens")
    assert log.getvalue() == ""
