"""The decode kernels compiled, in float16 and bfloat16, against float32; and the tuning that is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.decode_math import AttentionCase, RowCase, check_attention_row, check_linear_row

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

ROWS = [
    RowCase(rows=12288, columns=4096, norm=True, at_once=4, warps=8),
    RowCase(rows=4096, columns=11008, residual=True, at_once=2, warps=16),
    RowCase(rows=11008, columns=4096, norm=True, gated=True, at_once=2, warps=8),
    RowCase(rows=32000, columns=4096, norm=True, gain=True, at_once=8, warps=16, programs=1),
    RowCase(rows=1001, columns=1048, norm=True, bias=True, gated=True, at_once=4, programs=0),
    RowCase(rows=77, columns=32, residual=True, bias=True, at_once=16),
    RowCase(rows=4096, columns=11008, residual=True, int8=True, at_once=4, warps=16),
    RowCase(rows=1001, columns=1048, norm=True, gain=True, bias=True, gated=True, int8=True, at_once=4, programs=0),
]
ATTENTIONS = [
    AttentionCase(heads=32, kv_heads=32, head_dim=128, position=255, bucket=256),
    AttentionCase(heads=32, kv_heads=8, head_dim=128, position=300, bucket=576, norms=True),
    AttentionCase(heads=8, kv_heads=2, head_dim=64, position=0, bucket=64),
    AttentionCase(heads=32, kv_heads=8, head_dim=128, position=3000, bucket=4096, window=1024),
    AttentionCase(heads=4, kv_heads=2, head_dim=8, position=20, bucket=32, window=8),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", ROWS, ids=lambda case: f"{case.rows}x{case.columns}")
def test_matrix_times_row(case: RowCase, dtype: str) -> None:
    check_linear_row(case, torch.device("cuda"), getattr(torch, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", ATTENTIONS, ids=lambda case: f"{case.heads}-{case.kv_heads}-{case.bucket}")
def test_attention_of_one_query(case: AttentionCase, dtype: str) -> None:
    check_attention_row(case, torch.device("cuda"), getattr(torch, dtype))


def test_what_is_tuned_is_kept(make_engine: Callable[..., Any], tmp_path: Path) -> None:
    """A second engine with the same folder times nothing and gives the same tokens."""
    from fakes.engines import run_request

    first = make_engine("wide", "compiled", "captured", compile_cache_dir=str(tmp_path))
    assert first.facts().kernels in ("our decoder (Triton)", "our decoder (Triton, CUDA)")
    assert first.steps.tuner.timed
    second = make_engine("wide", "compiled", "captured", compile_cache_dir=str(tmp_path))
    assert not second.steps.tuner.timed
    prompt = list(range(5, 25))
    assert run_request(first, prompt, 20) == run_request(second, prompt, 20) == run_request(first, prompt, 20)
