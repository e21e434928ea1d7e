"""On the device: families with experts or ALiBi, each right on every approach, or refused by it in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from faults.test_families import right_or_refused
from unit.toy_families import save_toy, toy_config

GRAPHS = ("cuda_graph_1p", "jit_cuda_1p", "compiled_graph")


@pytest.mark.timeout(900)  # torch.compile for each
@pytest.mark.parametrize("family", ["bloom", "deepseek_v3", "gpt_oss", "mixtral", "mpt", "qwen3_moe", "qwen3_next"])
def test_experts_and_alibi(family: str, tmp_path: Path) -> None:
    save_toy(toy_config(family), tmp_path / "model")
    right_or_refused(tmp_path / "model", *GRAPHS, device="cuda")
