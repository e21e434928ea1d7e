"""Triton's interpreter, for the tests of kernels on a CPU."""

from __future__ import annotations

import importlib.util

import pytest


def require_interpreter() -> None:
    """Skip the calling module where there is no triton, or where it was imported without its interpreter."""
    torch = pytest.importorskip("torch")
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed (it comes with torch for CUDA)", allow_module_level=True)
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here: tests/gpu has these kernels compiled", allow_module_level=True)
    with pytest.MonkeyPatch.context() as patch:  # triton decides at its first import, for the whole process
        patch.setenv("TRITON_INTERPRET", "1")
        from triton.language import standard
        from triton.runtime.interpreter import InterpretedFunction
    if not isinstance(standard.sum, InterpretedFunction):
        pytest.skip("triton was imported without its interpreter; run this file alone", allow_module_level=True)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are imported and launched within run in Python."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
