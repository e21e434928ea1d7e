"""One line about a long loop: live on a terminal, every ten seconds in a log file.

Neither tqdm nor rich: in a log file tqdm separates its lines by carriage returns and rich writes nothing until the end,
and the threads that both start would run beside measured requests.
"""

from __future__ import annotations

import os
import shutil
import sys
from time import perf_counter
from typing import TextIO

TERMINAL_INTERVAL_S = 0.25
LOG_INTERVAL_S = 10.0
# In the environment of a run's jobs where its logger shows how far the study is: the width of that, on the left of the
# line that is rewritten; 0 where none is, and nothing is to be added to the log.
STATUS_WIDTH = "FIRSTTOKEN_STATUS_WIDTH"
# There, too: the terminal's file descriptor. Their own stderr is the job's log, since libraries print much.
TERMINAL_FD = "FIRSTTOKEN_TERMINAL_FD"
CLEAR_LINE = "\r\x1b[K"


def terminal() -> TextIO:
    """Where the user reads."""
    found = os.environ.get(TERMINAL_FD)
    return sys.stderr if found is None else os.fdopen(int(found), "w", closefd=False)


class Progress:
    """Call `update` between requests, never inside one; most calls write nothing."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._stream = terminal()
        self._live = self._stream.isatty()
        status = os.environ.get(STATUS_WIDTH)
        self._silent = status is not None and not self._live
        self._left = int(status or 0)
        self._interval_s = TERMINAL_INTERVAL_S if self._live else LOG_INTERVAL_S
        self._done = 0
        self._begun_s = self._written_s = perf_counter()

    def note(self, text: str) -> None:
        """What comes next; only on a terminal. The time left counts from here."""
        if self._live:
            self._write(text)
        self._begun_s = self._written_s = perf_counter()

    def update(self, detail: str) -> None:
        """One more is done; `detail` is about this one."""
        self._done += 1
        now_s = perf_counter()
        if now_s - self._written_s >= self._interval_s:
            self._written_s = now_s
            left_s = (now_s - self._begun_s) / self._done * (self._total - self._done)
            self._write(f"{self._done}/{self._total}, {detail}, {left_s:.0f} s left")

    def close(self) -> None:
        """Clear the live line; idempotent."""
        if self._live:
            self._stream.write(self._start())
            self._stream.flush()

    def _write(self, text: str) -> None:
        line = f"{self._label}: {text}"
        if self._live:
            self._stream.write(f"{self._start()}{line[: shutil.get_terminal_size().columns - 1 - self._left]}")
        elif not self._silent:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def _start(self) -> str:
        """To the start of this line, right of the logger's part, and clear from there."""
        return f"\r\x1b[{self._left}C\x1b[K" if self._left else CLEAR_LINE
