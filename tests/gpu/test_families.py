"""On the device: families with experts or ALiBi, each right on every approach, or refused by it in one line.

`FAULTS_FAMILIES=all` takes seven, which is six minutes on an H100; otherwise two.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

from faults.test_families import right_or_refused
from unit.toy_families import save_toy, toy_config

SOME = ("gpt_oss", "mpt")
MORE = ("bloom", "deepseek_v3", "mixtral", "qwen3_moe", "qwen3_next")
GRAPHS = ("cuda_graph_1p", "jit_cuda_1p", "compiled_graph")


@pytest.mark.timeout(900)  # torch.compile for each
@pytest.mark.parametrize("family", [*SOME, *(MORE if os.environ.get("FAULTS_FAMILIES") == "all" else ())])
def test_experts_and_alibi(family: str, tmp_path: Path) -> None:
    save_toy(toy_config(family), tmp_path / "model")
    right_or_refused(tmp_path / "model", *GRAPHS, device="cuda")
