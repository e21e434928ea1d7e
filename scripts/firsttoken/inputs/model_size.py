"""How large a model is, as far as it can be told before it is fetched: for estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from firsttoken.files import read_json
from firsttoken.inputs.checks import local_folder, stated_context
from firsttoken.inputs.model_files import model_files
from firsttoken.inputs.synthetic import complete_shape, parameters_of
from firsttoken.inputs.weight_headers import read_config, read_headers
from firsttoken.plan import DTYPE_BYTES, ModelManifest


@dataclass(frozen=True)
class ModelSize:
    """0 where it is not known."""

    parameters: int = 0
    kv_values_per_token: int = 0
    context: int = 0
    vocabulary: int = 0


def model_size(section: Mapping[str, Any], manifest: Path) -> ModelSize:
    """Of the config's `model` section; `manifest` is read where the model has been fetched. Raises ValueError in one
    line."""
    if manifest.exists():
        made = read_json(manifest, ModelManifest)
        item_bytes = DTYPE_BYTES[section["dtype"]]
        return ModelSize(made.parameters, made.kv_bytes_per_token // item_bytes, made.max_context, made.vocab_size)
    if section["source"] == "synthetic":
        config = complete_shape(section["architecture"], section["shape"])
        return _size(parameters_of(config), config)
    if section["source"] == "local":
        folder = local_folder(dict(section))
        tensors = read_headers(folder / name for name in model_files(folder) if name.endswith(".safetensors"))
        return _size(sum(prod(tensor.shape) for tensor in tensors.values()), read_config(folder / "config.json"))
    from firsttoken.inputs.huggingface import hub_config, hub_parameters

    repo, revision = section["repo"], section["revision"]
    return _size(hub_parameters(repo, revision), hub_config(repo, revision))


def _size(parameters: int, config: Mapping[str, Any]) -> ModelSize:
    """By the names that most configs use, GPT-2's among them."""
    text = config.get("text_config") or config

    def field(*names: str) -> int:
        return next((value for name in names if type(value := text.get(name)) is int), 0)

    heads = field("num_attention_heads", "n_head")
    width = field("head_dim") or field("hidden_size", "n_embd") // max(1, heads)
    values = 2 * field("num_hidden_layers", "n_layer") * (field("num_key_value_heads") or heads) * width
    return ModelSize(parameters, values, stated_context(config, "config.json") or 0, field("vocab_size"))
