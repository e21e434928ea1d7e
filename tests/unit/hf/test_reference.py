"""The reference file holds every prompt's tokens, some prompts' logits, and says how it was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from firsttoken.plan import Prompt, Prompts
from unit.tiny_models import prompt_ids, save_tiny_model

pytest.importorskip("torch")

NEW_TOKENS = 5


def make_prompts() -> Prompts:
    prompts = [
        Prompt(index=index, length=length, offset=index, token_ids=tuple(prompt_ids(length, index)))
        for length in (3, 9)
        for index in range(3)
    ]
    return Prompts(seed=1, corpus_sha256="corpus", tokenizer_sha256="tokenizer", prompts=tuple(prompts))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from firsttoken.hf.reference import make_reference

    folder = tmp_path_factory.mktemp("reference")
    model_dir = save_tiny_model("llama_gqa", folder / "model")
    make_reference(model_dir, make_prompts(), NEW_TOKENS, 2, "cpu", 1, folder / "reference.safetensors")
    return model_dir, folder / "reference.safetensors"


def test_every_prompt_has_tokens_and_the_first_ones_logits(reference: tuple[Path, Path]) -> None:
    from safetensors import safe_open

    with safe_open(str(reference[1]), framework="pt") as stream:
        keys = set(stream.keys())
        metadata = stream.metadata()
        lengths = {key: stream.get_slice(key).get_shape() for key in keys if key.startswith("tokens/")}
    assert {key for key in keys if key.startswith("logits/")} == {
        f"logits/{length}/{index}" for length in (3, 9) for index in (0, 1)
    }
    assert lengths == {f"tokens/{length}/{index}": [NEW_TOKENS] for length in (3, 9) for index in range(3)}
    assert metadata["dtype"] == "float32"
    assert metadata["device"] == "cpu"


def test_tokens_and_logits_equal_decoding_without_a_cache(reference: tuple[Path, Path]) -> None:
    """The whole text through the model at once: no cache, no positions carried over."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    tensors = load_file(reference[1])
    model = AutoModelForCausalLM.from_pretrained(reference[0], attn_implementation="eager").eval()
    for length in (3, 9):
        tokens = tensors[f"tokens/{length}/0"]
        text = torch.tensor([*prompt_ids(length, 0), *tokens.tolist()])[None]
        with torch.inference_mode():
            logits = model(text).logits[0, length - 1 : -1]
        torch.testing.assert_close(tensors[f"logits/{length}/0"], logits, atol=1e-4, rtol=1e-4)
        assert logits.argmax(-1).tolist() == tokens.tolist()
