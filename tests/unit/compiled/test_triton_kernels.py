"""The decode kernels under Triton's interpreter, against float32 reference mathematics, and whole tiny models."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import pytest

from unit.tiny_models import build_tiny_model, prompt_ids

torch = pytest.importorskip("torch")
if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed (it comes with torch for CUDA)", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("a CUDA device is here: tests/gpu has these kernels compiled", allow_module_level=True)
if "triton" in sys.modules and not os.environ.get("TRITON_INTERPRET"):
    pytest.skip("triton was imported without its interpreter; run this file alone", allow_module_level=True)
with pytest.MonkeyPatch.context() as patch:  # triton decides at its import
    patch.setenv("TRITON_INTERPRET", "1")
    import triton  # noqa: F401

from fakes.decode_math import AttentionCase, MatvecCase, check_attention, check_matvec  # noqa: E402


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.mark.parametrize(
    "case",
    [
        MatvecCase(rows=64, columns=64),
        MatvecCase(rows=50, columns=48, residual=True, at_once=4),  # neither divides its block
        MatvecCase(rows=33, columns=64, norm=True, bias=True, at_once=8),
        MatvecCase(rows=21, columns=96, norm=True, gated=True, at_once=2),
        MatvecCase(rows=16, columns=32, gated=True, bias=True),
        MatvecCase(rows=40, columns=56, norm=True, gain=True, programs=0),
    ],
)
def test_matrix_times_row(case: MatvecCase) -> None:
    """Seen failing: rows of the next group taken from this one; the up rows without their offset; no residual."""
    check_matvec(case, torch.device("cpu"), torch.float32, pdl=False)


@pytest.mark.parametrize(
    "case",
    [
        AttentionCase(heads=4, kv_heads=4, head_dim=16, position=0, bucket=32),
        AttentionCase(heads=4, kv_heads=2, head_dim=16, position=40, bucket=64),
        AttentionCase(heads=4, kv_heads=1, head_dim=32, position=150, bucket=200),  # the last part has nothing yet
        AttentionCase(heads=2, kv_heads=2, head_dim=16, position=150, bucket=192, window=70),
        AttentionCase(heads=2, kv_heads=1, head_dim=16, position=90, bucket=128, norms=True),
        AttentionCase(heads=1, kv_heads=1, head_dim=16, position=1100, bucket=1200),  # two blocks in each part
    ],
)
def test_attention_of_one_query(case: AttentionCase) -> None:
    """Seen failing: a window one too wide; the new key left out; parts added without their tops."""
    check_attention(case, torch.device("cpu"), torch.float32, pdl=False)


@pytest.mark.parametrize("family", ["llama_mha", "llama_gqa", "mistral_window", "qwen3"])
def test_tokens_of_the_families_that_kernels_serve(family: str) -> None:
    from firsttoken.compiled.compiled_regions import CompileOptions
    from firsttoken.compiled.compiled_step import CompiledSteps, StepOptions
    from firsttoken.hf.eager_decode import greedy_decode
    from firsttoken.plan import Sampling

    plain = CompileOptions(regions="none", backend="eager")
    steps: Any = CompiledSteps(
        build_tiny_model(family), 32, Sampling(), 1, StepOptions(decode=plain, prefill=plain), ""
    )
    assert steps.kernels == "triton"
    with torch.inference_mode():
        steps.buffers.stage(prompt_ids(12), 12)
        steps.prefill_step(12)()
        tokens = [int(steps.buffers.token)]
        for position in range(12, 17):
            steps.decode_step(16 if position < 16 else 32)()
            tokens.append(int(steps.buffers.token))
    assert tokens == greedy_decode(build_tiny_model(family), prompt_ids(12), 6)[0]


@pytest.mark.parametrize("family", ["gpt2", "gemma"])
def test_other_families_stay_with_the_compiler_and_say_why(family: str) -> None:
    from firsttoken.compiled.compiled_regions import CompileOptions
    from firsttoken.compiled.compiled_step import CompiledSteps, StepOptions
    from firsttoken.plan import Sampling

    plain = CompileOptions(regions="none", backend="eager")
    steps = CompiledSteps(build_tiny_model(family), 32, Sampling(), 1, StepOptions(decode=plain, prefill=plain), "")
    assert steps.kernels.startswith("inductor: ")
