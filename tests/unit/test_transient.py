"""What may be over the next time is told from what would fail again."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable

import pytest

from firsttoken.transient import Transient, is_transient


class InductorError(RuntimeError):
    """As torch.compile raises it: the cause is hidden from the traceback."""

    def __init__(self, inner: Exception) -> None:
        super().__init__(str(inner))
        self.inner_exception = inner


class CppCompileError(RuntimeError):
    pass


def caused(error: Exception, cause: Exception | None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ConnectionResetError("gone"),
        Transient("a process was killed"),
        subprocess.CalledProcessError(1, "ptxas"),
        InductorError(CppCompileError("g++ was killed")),
        caused(ValueError("cannot write"), OSError(errno.EROFS, "Read-only file system")),
    ],
)
def test_the_system_and_other_processes(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA out of memory"), OSError("the config is wrong"), InductorError(TypeError("x")), KeyError("x")],
)
def test_the_work_itself(error: Exception) -> None:
    assert not is_transient(error)


def test_an_error_met_on_the_way_counts_unless_it_was_handled() -> None:
    def raising(hide: bool) -> Callable[[], None]:
        def work() -> None:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise (RuntimeError("new") if not hide else RuntimeError("other")) from (None if hide else error)

        return work

    for hide in (False, True):
        with pytest.raises(RuntimeError) as raised:
            raising(hide)()
        assert is_transient(raised.value) is not hide
