"""Synthetic models: loadable by transformers, seeded, in the shape that was asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from firsttoken.files import sha256_file
from firsttoken.inputs import synthetic as module
from firsttoken.inputs.fetch import fetch_model
from firsttoken.inputs.synthetic import FIELDS, SMALL_SHAPES, complete_shape
from unit.inputs.conftest import synthetic


@pytest.mark.parametrize("architecture", sorted(SMALL_SHAPES))
def test_transformers_loads_it_and_its_greedy_choices_are_clear(
    architecture: str, tmp_path: Path, corpus: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fetch_model(synthetic(architecture=architecture), tmp_path / "model", corpus)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    model, loading = loaded
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    ids = AutoTokenizer.from_pretrained(tmp_path / "model")("It is a truth universally acknowledged").input_ids
    assert ids[0] == 1  # <s>, as the config says
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([ids * 8])).logits[0]
    assert torch.isfinite(logits).all()
    best, second = logits.topk(2).values.unbind(-1)
    assert (best - second).median() > 0.1, "near-ties everywhere: no equality check could be strict"


def test_the_seed_and_nothing_else_decides_the_weights(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    digests = {}
    for name, seed, threads in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        torch.manual_seed(threads)
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        fetch_model(synthetic(seed=seed), tmp_path / name, corpus)
        digests[name] = {path.name: sha256_file(path) for path in (tmp_path / name).iterdir()}
    assert digests["a"] == digests["b"]
    assert digests["a"]["model.safetensors"] != digests["c"]["model.safetensors"]
    assert digests["a"]["tokenizer.json"] == digests["c"]["tokenizer.json"]


def test_no_two_matrices_and_no_two_parts_of_one_are_alike(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file

    monkeypatch.setattr(module, "CHUNK_VALUES", 1000)
    fetch_model(synthetic(), tmp_path / "model", corpus)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    starts = [part[:100] for values in weights.values() if values.dim() > 1 for part in values.view(-1).split(1000)]
    starts = [start for start in starts if len(start) == 100]
    assert len(torch.stack(starts).unique(dim=0)) == len(starts) > 800


def test_values_follow_the_models_own_initialiser(llama_folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(llama_folder / "model.safetensors")
    std = json.loads((llama_folder / "config.json").read_text())["initializer_range"]
    for name, values in weights.items():
        if values.dim() == 1:
            assert torch.equal(values, torch.ones_like(values)), name
        else:
            assert values.std().item() == pytest.approx(std, rel=0.03), name
            assert abs(values.mean().item()) < 0.03 * std, name


def test_a_large_model_comes_in_shards_that_transformers_joins(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    whole = fetch_model(synthetic(dtype="bfloat16"), tmp_path / "whole", corpus)
    monkeypatch.setattr(module, "SHARD_BYTES", 400_000)
    parts = fetch_model(synthetic(dtype="bfloat16"), tmp_path / "parts", corpus)
    shards = [entry for entry in parts.files if entry.path.endswith(".safetensors")]
    assert len(shards) > 2
    assert sum(entry.bytes for entry in shards) == pytest.approx(whole.weight_bytes, rel=0.01)
    loaded = [AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype="auto") for name in ("whole", "parts")]
    for (name, one), other in zip(loaded[0].named_parameters(), loaded[1].parameters(), strict=True):
        assert one.dtype == torch.bfloat16
        assert torch.equal(one, other), name


def test_a_shape_overrides_the_default_and_derives_the_rest(tmp_path: Path, corpus: Path) -> None:
    shape = {"hidden_size": 64, "num_attention_heads": 8, "vocab_size": 4000, "num_hidden_layers": 1}
    manifest = fetch_model(synthetic(shape=shape), tmp_path / "model", corpus)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["num_key_value_heads"], config["head_dim"], config["vocab_size"]) == (8, 8, 4000)
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    assert len(tokenizer["model"]["vocab"]) == module.TOKENIZER_VOCABULARY  # ids above are unused
    assert manifest.vocab_size == 4000


def test_a_full_size_shape_keeps_the_usual_initialiser() -> None:
    assert complete_shape("llama", {"hidden_size": 4096, "num_attention_heads": 32})["initializer_range"] == 0.02


@pytest.mark.parametrize(
    ("architecture", "shape", "message"),
    [
        ("t5", {}, "model.architecture: 't5' cannot be made"),
        ("llama", {"hidden_size": 100, "num_attention_heads": 3}, "no multiple of 3 attention heads"),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 3}, "cannot share 3 key-value heads"),
        ("llama", {"num_hidden_layers": 0}, "model.shape.num_hidden_layers: 0 is no positive whole number"),
        ("gpt2", {"n_embd": "wide"}, "model.shape.hidden_size: 'wide' is no positive whole number"),
        ("llama", {"vocab_size": 100}, "model.shape.vocab_size: 100 is too small"),
        ("llama", {"num_key_value_heads": 0}, "model.shape.num_key_value_heads: 0 is no positive whole number"),
        ("llama", {"intermediate_size": 1.5}, "model.shape.intermediate_size: 1.5 is no positive whole number"),
        ("llama", {"hidden_size": 12}, "a head is 3 wide; rotary positions need an even width"),
        ("gpt2", {"n_embd": 64, "hidden_size": 64}, "n_embd, hidden_size; two of them name the same field"),
        ("gpt2", {"rms_norm_eps": 1e-5}, "model.shape.rms_norm_eps: gpt2 has no such field; known: activation_f"),
        ("llama", {"auto_map": {"AutoModel": "x.Y"}}, "model.shape.auto_map: llama has no such field"),
        ("llama", {"hidden_size": 2**20}, "makes about 9e\\+12 parameters; must be at most 1e\\+12"),
    ],
)
def test_a_shape_that_cannot_be(architecture: str, shape: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete_shape(architecture, shape)


def test_transformers_has_all_fields() -> None:
    from transformers import AutoConfig

    for architecture, fields in FIELDS.items():
        known = AutoConfig.for_model(architecture)
        assert not [field for field in fields if not hasattr(known, field)]


def test_an_unknown_field_is_named(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.shape\.hiden_size: llama has no such field"):
        fetch_model(synthetic(shape={"hiden_size": 64}), tmp_path / "model", corpus)
    assert not (tmp_path / "model").exists()
