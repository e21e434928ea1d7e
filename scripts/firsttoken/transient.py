"""Which failures may be over the next time: the system, a compiler or another process failed, not the work itself.

A run that would fail again leaves a record that says `failed`; one that may not fails its job, so that the same command
tries again.
"""

from __future__ import annotations

import signal
import subprocess

# What a program brings on itself; any other signal was sent to it, by a person or by the kernel for want of memory.
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS)
# By name, since the modules that define them take seconds to import, or are not installed.
_OF_OTHER_PROCESSES = (
    "CppCompileError", "InvalidCxxCompiler", "PTXASError", "BrokenProcessPool", "SubprocException", "EngineDeadError",
)  # fmt: skip


class Transient(RuntimeError):
    """A failure of that kind; the message is one line."""


def is_transient(error: BaseException | None) -> bool:
    """Whether `error`, or what it was made of, is such a failure."""
    if error is None:
        return False
    # Libraries raise OSError without a number for files that they find wrong.
    of_the_system = isinstance(error, OSError) and (error.errno is not None or isinstance(error, ConnectionError))
    if of_the_system or isinstance(error, Transient | subprocess.SubprocessError | TimeoutError):
        return True
    if type(error).__name__ in _OF_OTHER_PROCESSES:
        return True
    wrapped = getattr(error, "inner_exception", None)  # of torch.compile, which hides it from the traceback
    context = None if error.__suppress_context__ else error.__context__
    return any(is_transient(behind) for behind in (error.__cause__, context, wrapped))
