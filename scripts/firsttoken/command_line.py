"""How a command ends: by its status, Ctrl-C, or a terminal, pipe or disk that takes no more of what it says."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn


def end_with(main: Callable[[], int]) -> NoReturn:
    """Exit with what `main` returns. A character that the terminal does not have is written as its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BrokenPipeError:  # of `make summary | head -1`
        status = 128 + signal.SIGPIPE
        _leave_stdout()
    except OSError as error:
        status = 1
        _leave_stdout()
        print(f"firsttoken: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
    sys.exit(status)


def _leave_stdout() -> None:
    """Python writes what is left at its end, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
