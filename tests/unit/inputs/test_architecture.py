"""Names and shapes of stored tensors against what transformers would load; each refusal is one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firsttoken.inputs.manifest import describe_model
from unit.inputs.weights import Tensors, changed_copy
from unit.tiny_models import save_tiny_model

torch = pytest.importorskip("torch")

SECTION: dict[str, Any] = {"name": "x", "source": "local", "path": "x", "dtype": "float32"}
HEAD, NORM = "lm_head.weight", "model.norm.weight"


def rename(old: str, new: str) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


def extra(name: str, *shape: int) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


REFUSED: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    # The attack: one bit of a name. transformers made a new random lm_head, and all gates were green.
    "renamed": (rename(HEAD, "mm_head.weight"), "lm_head.weight is missing, mm_head.weight is not known"),
    "missing": (lambda tensors: tensors.pop(NORM), "model.norm.weight is missing"),
    "wrong shape": (extra(NORM, 127), "model.norm.weight has shape [127], not [128]"),
    "transposed": (extra("model.layers.0.mlp.up_proj.weight", 128, 352), "has shape [128, 352], not [352, 128]"),
    "extra layer": (extra("model.layers.2.mlp.up_proj.weight", 352, 128), "layers.2.mlp.up_proj.weight is not known"),
    # transformers says nothing about this one: it takes one of the two.
    "shadow": (extra("norm.weight", 128), "norm.weight is there twice, with and without the prefix"),
    "all": (lambda tensors: tensors.clear(), "and 18 more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tensors_that_are_not_the_architectures(case: str, llama_folder: Path, tmp_path: Path) -> None:
    change, words = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        describe_model(SECTION, changed_copy(llama_folder, tmp_path / "model", change))
    assert "the weights are not those of LlamaForCausalLM" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_buffers_of_older_checkpoints_are_accepted(llama_folder: Path, tmp_path: Path) -> None:
    """Llama-2's own files carry the rotary frequencies, GPT-2's and Pythia's the masks, and no base model's prefix."""
    wanted = describe_model(SECTION, llama_folder).parameters
    folder = changed_copy(llama_folder, tmp_path / "llama", extra("model.layers.0.self_attn.rotary_emb.inv_freq", 16))
    assert describe_model(SECTION, folder).parameters == wanted

    def as_on_the_hub(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 128, 128, dtype=torch.uint8)

    gpt2 = save_tiny_model("gpt2", tmp_path / "gpt2")
    folder = changed_copy(gpt2, tmp_path / "hub", as_on_the_hub)
    assert describe_model(SECTION, folder).parameters == describe_model(SECTION, gpt2).parameters


def test_tied_embeddings_with_and_without_the_copy(tmp_path: Path) -> None:
    tied = save_tiny_model("qwen3", tmp_path / "tied")
    table = "model.embed_tokens.weight"

    def add_copy(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[table]

    copied = changed_copy(tied, tmp_path / "copied", add_copy)
    other = changed_copy(tied, tmp_path / "other", rename(table, HEAD))
    assert len({describe_model(SECTION, folder).parameters for folder in (tied, copied, other)}) == 1
    with pytest.raises(ValueError, match="is missing"):
        describe_model(SECTION, changed_copy(tied, tmp_path / "none", lambda tensors: tensors.pop(table)))


def test_experts_that_are_stacked_on_loading(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "mixtral", vocab_size=96, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "model")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert describe_model(SECTION, tmp_path / "model").parameters == parameters
    expert = "model.layers.0.block_sparse_moe.experts.3.w1.weight"
    attacks: dict[str, Callable[[Tensors], Any]] = {
        "lost": lambda tensors: tensors.pop(expert),
        "more": extra(expert.replace("3", "4"), 32, 16),
        "shape": extra(expert, 32, 15),
        "renamed": rename(expert, expert.replace("w1", "w4")),
    }
    for name, change in attacks.items():
        with pytest.raises(ValueError, match=r"layers\.0\.mlp\.experts\.gate_up_proj is missing"):
            describe_model(SECTION, changed_copy(tmp_path / "model", tmp_path / name, change))
