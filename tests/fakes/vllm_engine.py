"""Puts the stand-in for vLLM in place for one test: its package, the functions of CUDA that its worker calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes.plans import gpu_plan
from firsttoken.external.vllm import settings as vllm_settings

WORKER_MODULE = vllm_settings.WORKER.rpartition(".")[0]
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT")


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in's LLMEngine class; all that a test made of it is shut down at the end."""
    import torch

    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    for name in (*vllm_settings.process_environment(gpu_plan(), "", False, flashinfer=False), *CACHES):
        monkeypatch.setenv(name, "before")  # recorded, so that monkeypatch restores what the code under test sets
    from vllm.v1.engine.llm_engine import LLMEngine

    try:
        yield LLMEngine
    finally:
        for engine in LLMEngine.instances:
            engine.engine_core.shutdown()
        for name in [name for name in sys.modules if name.split(".")[0] == "vllm" or name == WORKER_MODULE]:
            del sys.modules[name]
