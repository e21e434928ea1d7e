"""One live line a run: approach, prompt length, requests done, running median, time left."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections import defaultdict
from time import perf_counter
from typing import TextIO

TERMINAL_INTERVAL_S = 0.25
LOG_INTERVAL_S = 10.0


class Progress:
    """Called between requests, never inside one; writes at most every `interval_s`, so most calls only append a number.

    On a terminal the line is rewritten in place; in a log file it is one plain line every ten seconds, and nothing for
    runs that are shorter.
    """

    def __init__(self, approach: str, repeat: int, total: int, stream: TextIO | None = None) -> None:
        self._label = f"{approach} #{repeat}"
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._interval_s = TERMINAL_INTERVAL_S if self._live else LOG_INTERVAL_S
        self._ttfts_ns: defaultdict[int, list[int]] = defaultdict(list)  # by prompt length
        self._done = 0
        self._begun_s = self._written_s = perf_counter()
        self._dirty = False

    def note(self, text: str) -> None:
        """What happens now, for the parts without requests (load, warm-up); only on a terminal."""
        if self._live:
            self._write(f"{self._label}: {text}")

    def begin(self) -> None:
        """The first measured request comes next; the time left counts from here."""
        self._begun_s = self._written_s = perf_counter()

    def update(self, prompt_length: int, ttft_ns: int) -> None:
        """One more request is done."""
        self._ttfts_ns[prompt_length].append(ttft_ns)
        self._done += 1
        now_s = perf_counter()
        if now_s - self._written_s >= self._interval_s:
            self._written_s = now_s
            self._write(self._line(prompt_length, now_s))

    def close(self) -> None:
        """Clear the live line; idempotent."""
        if self._live and self._dirty:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._dirty = False

    def _line(self, prompt_length: int, now_s: float) -> str:
        left_s = (now_s - self._begun_s) / self._done * (self._total - self._done)
        median_ms = statistics.median(self._ttfts_ns[prompt_length]) / 1e6
        return (
            f"{self._label}: {self._done}/{self._total} requests, median TTFT at {prompt_length} tokens "
            f"{median_ms:.2f} ms, {left_s:.0f} s left"
        )

    def _write(self, text: str) -> None:
        if self._live:
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r\x1b[K{text[: columns - 1]}")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
        self._dirty = True
