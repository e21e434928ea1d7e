"""The reference file holds every prompt's tokens, some prompts' logits, and says how it was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from firsttoken.plan import Prompt, Prompts
from unit.tiny_models import prompt_ids, save_tiny_model
from unit.toy_families import save_toy, toy_config

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
    make_reference(model_dir, make_prompts(), NEW_TOKENS, 128, 2, "cpu", 1, folder / "reference.safetensors")
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


def refusal(model_dir: Path, max_context: int = 128) -> str:
    from firsttoken.hf.reference import make_reference

    with pytest.raises(ValueError) as caught:
        make_reference(model_dir, make_prompts(), NEW_TOKENS, max_context, 0, "cpu", 1, model_dir / "none.safetensors")
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300
    return str(caught.value)


def test_texts_beyond_the_models_context_are_refused(reference: tuple[Path, Path]) -> None:
    """Seen failing: a model of the hub was run past its context, or ended in a traceback."""
    assert "found 9, which with new_tokens 5 is longer than the model's context of 13" in refusal(reference[0], 13)


def test_a_text_that_crosses_where_rotary_positions_change_is_refused(tmp_path: Path) -> None:
    """Seen failing: the cached steps were the truth, off by a tenth from the model's forward pass."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0 + i for i in range(8)]}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 10, **factors}
    folder = save_toy(toy_config("llama", head_dim=16, rope_parameters=rope), tmp_path)
    assert "LlamaForCausalLM (rotary positions of type longrope): with a prompt of 9 tokens" in refusal(folder)


@pytest.mark.parametrize("family", ["gpt_oss", "bloom", "gptj"])
def test_families_without_sdpa_have_a_reference(family: str, tmp_path: Path) -> None:
    """Seen failing: Unsupported, with a traceback, and no study."""
    from safetensors import safe_open

    from firsttoken.hf.reference import make_reference

    folder = save_toy(toy_config(family), tmp_path)
    make_reference(folder, make_prompts(), NEW_TOKENS, 128, 0, "cpu", 1, tmp_path / "reference.safetensors")
    with safe_open(str(tmp_path / "reference.safetensors"), framework="pt") as stream:
        assert stream.metadata()["attention"] == "eager"
