"""Puts the stand-in for TensorRT-LLM in place for one test: its package, the versions that it wants, a GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes.plans import gpu_plan
from firsttoken import hardware
from firsttoken.external.tensorrt_llm import settings as trtllm_settings
from firsttoken.plan import Plan, TensorRTOptions
from firsttoken.results import Gpu

GPU = Gpu(name="NVIDIA Test", uuid="GPU-1", memory_bytes=1 << 30, compute_capability="9.0")
VERSIONS = {
    "python": "3.12.3",
    "tensorrt_llm": "1.2.1",
    "torch": "2.9.1+cu130",
    "transformers": "4.57.3",
    "numpy": "1.26.4",
}


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The base of the stand-in's two LLM classes; all that a test made of them is shut down at the end."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(trtllm_settings, "installed_versions", lambda: dict(VERSIONS))
    monkeypatch.setattr(hardware, "visible_gpus", lambda: [GPU])
    for name in ("NVIDIA_TF32_OVERRIDE", *trtllm_settings.process_environment(plan())):
        monkeypatch.setenv(name, "before")  # recorded, so that monkeypatch restores what the code under test sets
    from tensorrt_llm.llmapi.llm import BaseLLM

    try:
        yield BaseLLM
    finally:
        for llm in BaseLLM.instances:
            llm.shutdown()
        for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt_llm"]:
            del sys.modules[name]


def plan(**changes: Any) -> Plan:
    """`gpu_plan`, without a worker process unless it is asked for."""
    return gpu_plan(**{"tensorrt_llm": TensorRTOptions(single_process=True), **changes})
