"""Every decoder family that transformers knows, as a toy: right on each approach, or refused in one line.

`FAULTS_FAMILIES=all` takes all, which is minutes; otherwise those of the list below, each for what it alone has.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fakes.sinks import OneByOne
from firsttoken.approaches.base import approach_class
from firsttoken.hf.reference import make_reference
from firsttoken.inputs.manifest import describe_model
from firsttoken.plan import Device, Plan, Prompt, Prompts, Unsupported
from unit.tiny_models import prompt_ids
from unit.toy_families import save_toy, toy_config

pytestmark = pytest.mark.slow

LENGTHS, NEW_TOKENS = (20, 5), 6  # the window of those that have one is 8
SOME = {
    "bert": "an encoder",
    "codegen": "no sdpa",
    "deepseek_v3": "latent attention, experts",
    "gemma4_text": "a head size for each layer",
    "gpt_oss": "sinks, experts",
    "modernbert-decoder": "a config that insists on a padding token",
    "mpt": "ALiBi",
    "qwen3_next": "recurrent layers",
}


def families() -> list[str]:
    if os.environ.get("FAULTS_FAMILIES") != "all":
        return list(SOME)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


ROPE_FIELDS: dict[str, dict[str, Any]] = {
    "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "longrope": {"short_factor": [1.0] * 8, "long_factor": [4.0 + i for i in range(8)]},
    "proportional": {"partial_rotary_factor": 0.5},
}


def one_line(error: Exception) -> None:
    assert "\n" not in str(error) and 0 < len(str(error)) <= 300, error


@pytest.mark.parametrize("family", families())
def test_right_or_refused(family: str, tmp_path: Path) -> None:
    """Seen failing: encoders were decoded as if they were causal; families without sdpa ended in a traceback; a head
    size for each layer was an AttributeError."""
    folder = tmp_path / "model"
    try:
        save_toy(toy_config(family), folder)
    except Exception as error:  # a config that needs sizes of its own, or packages
        assert family not in SOME
        pytest.skip(f"no toy: {type(error).__name__}: {' '.join(str(error).split())[:100]}")
    right_or_refused(folder)


@pytest.mark.parametrize(
    ("kind", "original"),
    [
        ("linear", 128),
        ("dynamic", 128),
        ("proportional", 128),
        ("yarn", 23),
        ("llama3", 23),
        ("longrope", 4),
        ("longrope", 23),
        ("longrope", 128),
    ],
)
def test_rotary_positions(kind: str, original: int, tmp_path: Path) -> None:
    """Texts of 26 and 11 tokens: beyond the original context, across it or within. Seen
    failing: across it, with longrope, approaches agreed with a reference that was no forward pass of the model."""
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **ROPE_FIELDS.get(kind, {})}
    if kind in ("yarn", "longrope", "llama3"):
        rope["original_max_position_embeddings"] = original
    save_toy(toy_config("llama", head_dim=16, rope_parameters=rope), tmp_path / "model")
    refusal = right_or_refused(tmp_path / "model", "cuda_graph_1p")
    assert ("type longrope): with a prompt of 20 tokens" in refusal) == (kind == "longrope" and original == 23)


def right_or_refused(folder: Path, *more: str, device: Device = "cpu") -> str:
    """Asserts that every approach agrees with the reference or is unavailable; returns why there is no reference."""
    prompts = [Prompt(index=0, length=length, offset=0, token_ids=tuple(prompt_ids(length))) for length in LENGTHS]
    try:
        section = {"name": "toy", "source": "local", "path": "toy", "dtype": "float32"}
        context = describe_model(section, folder).max_context
        given = Prompts(seed=1, corpus_sha256="", tokenizer_sha256="", prompts=tuple(prompts))
        reference = folder / "reference"
        make_reference(folder, given, NEW_TOKENS, context, 1, device, 1, reference)
    except ValueError as error:
        one_line(error)
        return str(error)
    for name in ("baseline", "eager_loop", *more):
        compare(name, folder, reference, device)
    return ""


def compare(name: str, folder: Path, reference: Path, device: Device) -> None:
    """Tokens and logits of an approach against the reference, where it serves the model."""
    import torch
    from safetensors.torch import load_file

    wanted: dict[str, Any] = load_file(reference)
    plan = Plan(
        prompt_lengths=LENGTHS, new_tokens=NEW_TOKENS, max_context=max(LENGTHS) + NEW_TOKENS, dtype="float32",
        device=device,
    )  # fmt: skip
    with approach_class(name)() as approach:
        try:
            approach.load(folder, plan)
        except Unsupported as error:
            one_line(error)
            return
        for length in (*LENGTHS, LENGTHS[0]):
            sink, path = OneByOne(), folder / "logits"
            approach.generate(prompt_ids(length), NEW_TOKENS, sink)
            tokens, logits = wanted[f"tokens/{length}/0"].tolist(), wanted[f"logits/{length}/0"]
            assert sink.tokens == tokens
            assert approach.save_logits(prompt_ids(length), tokens, path)
            largest = float(logits.abs().max())
            torch.testing.assert_close(load_file(path)["logits"], logits, atol=1e-4 * largest, rtol=0)
