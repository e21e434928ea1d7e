"""The baseline is what a user gets; all others run their forward in inference mode; each says which it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes.sinks import OneByOne
from firsttoken.approaches.base import approach_class
from firsttoken.plan import Plan
from unit.tiny_models import prompt_ids, save_tiny_model

torch = pytest.importorskip("torch")

PLAN = Plan(prompt_lengths=(4,), new_tokens=3, max_context=8, dtype="float32", device="cpu")
ENGINES = (
    "eager_loop", "jit_only", "cuda_graph", "jit_cuda", "compiled_graph", "cuda_graph_1p", "jit_cuda_1p",
    "jit_cuda_1p_ahead",
)  # fmt: skip


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("llama_gqa", tmp_path_factory.mktemp("model"))


def test_the_baseline_leaves_the_model_and_torch_as_a_user_gets_them(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing: sdpa forced on the model; cuDNN's attention and TF32 switched off; parameters frozen."""
    from transformers import AutoModelForCausalLM

    asked: list[dict[str, Any]] = []
    load = AutoModelForCausalLM.from_pretrained

    def recorded(*arguments: Any, **keywords: Any) -> Any:
        asked.append(keywords)
        return load(*arguments, **keywords)

    def switches() -> tuple[bool, bool, str]:
        cudnn = torch.backends.cudnn.allow_tf32
        return torch.backends.cuda.cudnn_sdp_enabled(), cudnn, torch.get_float32_matmul_precision()

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", recorded)
    before = switches()
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.backends.cudnn.allow_tf32 = True
    try:
        as_a_user = switches()
        with approach_class("baseline")() as approach:
            approach.load(model_dir, PLAN)
            assert "attn_implementation" not in asked[0]
            assert switches() == as_a_user
            assert all(parameter.requires_grad for parameter in approach._model.parameters())  # type: ignore[attr-defined]
            assert approach.facts().attention == load(model_dir).config._attn_implementation
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("name", ["baseline", *ENGINES])
def test_the_forward_runs_in_the_mode_that_the_record_names(
    name: str, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of approaches in two processes the same engine runs here, in one."""
    from transformers import LlamaForCausalLM

    modes: set[str] = set()
    forward = LlamaForCausalLM.forward

    def observed(self: Any, *arguments: Any, **keywords: Any) -> Any:
        inference = torch.is_inference_mode_enabled()
        modes.add("inference_mode" if inference else "grad" if torch.is_grad_enabled() else "no_grad")
        return forward(self, *arguments, **keywords)

    kind = type(name, (approach_class(name),), {"processes": 1})
    with kind() as approach:
        approach.load(model_dir, PLAN)
        monkeypatch.setattr(LlamaForCausalLM, "forward", observed)
        approach.generate(prompt_ids(4), 3, OneByOne())
        assert modes == {approach.facts().grad_mode}
        assert approach.facts().grad_mode == ("no_grad" if name == "baseline" else "inference_mode")
