"""One line about a long loop: live on a terminal, every ten seconds in a log file.

Neither tqdm nor rich: in a log file tqdm separates its lines by carriage returns and rich writes nothing until the end,
and the threads that both start would run beside measured requests.
"""

from __future__ import annotations

import shutil
import sys
from time import perf_counter

TERMINAL_INTERVAL_S = 0.25
LOG_INTERVAL_S = 10.0


class Progress:
    """Call `update` between requests, never inside one; most calls write nothing."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._stream = sys.stderr
        self._live = self._stream.isatty()
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
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _write(self, text: str) -> None:
        line = f"{self._label}: {text}"
        self._stream.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}" if self._live else f"{line}\n")
        self._stream.flush()
