"""The manifest against counts that were made another way: closed forms, and the loaded model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from firsttoken.inputs import manifest as module
from firsttoken.inputs.fetch import fetch_model
from firsttoken.inputs.manifest import describe_model
from firsttoken.inputs.synthetic import SMALL_SHAPES
from firsttoken.inputs.weight_headers import StoredTensor
from unit.inputs.conftest import synthetic
from unit.toy_families import save_toy, toy_config


def test_llama_by_hand(tmp_path: Path, corpus: Path) -> None:
    manifest = fetch_model(synthetic(dtype="bfloat16"), tmp_path / "model", corpus)
    hidden, inner, vocabulary, layers, kv_width = 128, 352, 2048, 2, 2 * 32
    matrices = layers * (2 * hidden * hidden + 2 * hidden * kv_width + 3 * hidden * inner)
    norms = (2 * layers + 1) * hidden
    table = vocabulary * hidden
    assert manifest.parameters == matrices + norms + 2 * table
    assert manifest.weight_bytes == 2 * manifest.parameters
    assert manifest.read_bytes_per_token == 2 * (matrices + norms + table + hidden)  # of the table one row
    assert manifest.flops_per_token == 2 * (matrices + table)
    assert manifest.head_flops == 2 * table
    assert manifest.kv_bytes_per_token == 2 * 2 * layers * kv_width
    assert (manifest.max_context, manifest.vocab_size, manifest.attention_window) == (1024, 2048, 0)
    assert (manifest.architecture, manifest.weights) == ("LlamaForCausalLM", "random")
    shapes = {(layer.inputs, layer.outputs, layer.head): layer.count for layer in manifest.linear_layers}
    body = {(hidden, hidden): 2, (hidden, kv_width): 2, (hidden, inner): 2, (inner, hidden): 1}
    assert shapes == {(*shape, False): layers * count for shape, count in body.items()} | {
        (hidden, vocabulary, True): 1
    }


@pytest.mark.parametrize("architecture", sorted(SMALL_SHAPES))
def test_what_the_loaded_model_and_its_cache_really_hold(architecture: str, tmp_path: Path, corpus: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    manifest = fetch_model(synthetic(architecture=architecture), tmp_path / "model", corpus)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert manifest.parameters == sum(parameter.numel() for parameter in model.parameters())
    positions = 5
    with torch.inference_mode():
        cache = model(torch.ones(1, positions, dtype=torch.long), use_cache=True).past_key_values
    cached = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert manifest.kv_bytes_per_token * positions == cached
    products = [2 * layer.inputs * layer.outputs * layer.count for layer in manifest.linear_layers]
    assert sum(products) == manifest.flops_per_token
    assert [layer.outputs for layer in manifest.linear_layers if layer.head] == [manifest.vocab_size]
    tied = model.config.tie_word_embeddings
    assert (manifest.read_bytes_per_token == manifest.weight_bytes) == (tied and architecture != "gpt2")


@pytest.mark.parametrize("family", ["gemma4_text", "gemma3", "gpt_bigcode", "qwen3_next", "jamba", "exaone4"])
def test_families_with_other_layers_or_parts(family: str, tmp_path: Path) -> None:
    """Seen failing: a head size for each layer was an AttributeError; a vision tower and the layers without keys and
    values counted, so that the floor was above what a step reads."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = save_toy(toy_config(family), tmp_path)
    manifest = describe_model({"name": "x", "source": "local", "path": "x", "dtype": "float32"}, folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    positions = 5  # fewer than the window
    with torch.inference_mode():
        cache = model(torch.ones(1, positions, dtype=torch.long), use_cache=True).past_key_values
    buffers = [
        part for layer in cache.layers for part in (getattr(layer, "keys", None), getattr(layer, "values", None))
    ]
    assert manifest.kv_bytes_per_token * positions == sum(part.nbytes for part in buffers if part is not None)
    towers = sum(part.numel() for name, part in model.named_parameters() if "vision" in name or "projector" in name)
    assert (towers > 0) == (family == "gemma3")
    assert manifest.parameters == sum(part.numel() for part in model.parameters()) - towers
    assert 0 < manifest.read_bytes_per_token <= manifest.weight_bytes == 4 * manifest.parameters


def test_a_sliding_window_is_told(tmp_path: Path, corpus: Path) -> None:
    section = synthetic(architecture="mistral", shape={"sliding_window": 64})
    assert fetch_model(section, tmp_path / "model", corpus).attention_window == 64


def test_the_published_model_has_its_known_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama-2-7B: 6,738,415,616 parameters; 13.215 GB read a token in float16; 0.524 MB of KV cache a token. Nothing
    of that size is made."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(max_position_embeddings=4096)
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in LlamaForCausalLM(config).state_dict().items()}
    shapes |= {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": (64,) for layer in range(32)}  # as in its files
    headers = {name: StoredTensor("F16", shape) for name, shape in shapes.items()}
    monkeypatch.setattr(module, "read_headers", lambda paths: headers)
    section = {"name": "llama", "source": "local", "path": "x", "dtype": "float16"}
    manifest = describe_model(section, tmp_path)
    assert manifest.parameters == 6_738_415_616
    assert manifest.read_bytes_per_token == pytest.approx(13.215e9, rel=1e-4)
    assert manifest.kv_bytes_per_token == 524_288


def test_of_experts_only_those_taken_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        "mixtral", vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2, tie_word_embeddings=False,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    monkeypatch.setattr(module, "check_tensors", lambda model, stored, folder: None)
    manifest = describe_model({"name": "moe", "source": "local", "path": "x", "dtype": "float32"}, tmp_path)
    experts = 8 * 3 * 16 * 32
    table = 300 * 16
    assert manifest.parameters - manifest.read_bytes_per_token // 4 == experts * 6 // 8 + table - 16
    assert manifest.linear_layers == (), "a router chooses their products"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "t5"}', "no decoder-only model of type 't5'"),
        ('{"model_type": "nonesuch"}', "no decoder-only model of type 'nonesuch'"),
        ('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}', "needs code of its own, which is not run"),
    ],
)
def test_a_model_that_cannot_be_served(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    section: dict[str, Any] = {"name": "x", "source": "local", "path": "x", "dtype": "float32"}
    with pytest.raises(ValueError, match=message) as caught:
        describe_model(section, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("mamba", {"num_hidden_layers": 1, "hidden_size": 8}, "a mamba model has no attention"),
        ("bloom", {"n_layer": 1, "hidden_size": 8, "n_head": 2}, "config.json of the bloom model: no max_position_emb"),
    ],
)
def test_what_a_config_does_not_say_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, fields: dict[str, int], message: str
) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model(model_type, vocab_size=300, **fields).save_pretrained(tmp_path)
    monkeypatch.setattr(module, "check_tensors", lambda model, stored, folder: None)
    with pytest.raises(ValueError, match=message):
        describe_model({"name": "x", "source": "local", "path": "x", "dtype": "float32"}, tmp_path)


def test_weights_that_are_cut_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(llama_folder, folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"model\.safetensors: no whole safetensors file"):
        describe_model(synthetic(), folder)
