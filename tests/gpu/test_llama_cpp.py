"""On the device: llama.cpp, where one that was built with CUDA is installed, against float32 transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.llama_cpp import FAMILIES, PYTHON, Session, reference, rms, saved_models  # noqa: F401 (a fixture)
from firsttoken.measure.probe import probe

TF32 = 3e-3  # RMS of log-probabilities: llama.cpp lets cuBLAS round float32 factors to TF32


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_it_computes_what_the_reference_computes_with_all_layers_on_the_device(
    models: Callable[[str], Path], tmp_path: Path, dtype: str
) -> None:
    found = probe(str(PYTHON), "cuda", dtype, ("llama_cpp",)).approaches["llama_cpp"]
    if found.status == "unavailable":
        pytest.skip(found.reason)
    assert found.status == ("measured" if dtype == "bfloat16" else "approximate")
    jobs = Session(tmp_path).run([models(family) for family in FAMILIES], device="cuda", dtype=dtype)
    for family, job in zip(FAMILIES, jobs, strict=True):
        assert "error" not in job.result
        offloaded, layers = job.result["settings"]["offloaded_layers"].split("/")
        assert offloaded == layers and job.result["settings"]["device"].startswith("NVIDIA")
        truth = reference(family)
        allowed = TF32 if dtype == "float32" else 2 * rms(reference(family, dtype), truth)
        assert rms(job.log_probs, truth) < allowed, family
