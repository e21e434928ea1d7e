"""What a model is and what a decode step costs, from its config and the headers of its weights; none is loaded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.inputs.architecture import check_tensors
from firsttoken.inputs.file_entries import file_entries
from firsttoken.inputs.model_files import CONTEXT_FIELDS
from firsttoken.inputs.weight_headers import check_stored, parse_object, read_config, read_headers
from firsttoken.plan import DTYPE_BYTES, LinearLayer, ModelManifest

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def describe_model(section: dict[str, Any], folder: Path) -> ModelManifest:
    """The manifest of the model in `folder`, in the study's dtype. Raises ValueError for a model that cannot be served.

    The architecture is built on torch's meta device, which holds shapes only, so it is right for any model that
    AutoModelForCausalLM knows.
    """
    for file in sorted(folder.glob("*.json")):
        parse_object(file.read_bytes(), str(file))  # transformers would find a damaged one late, or never
    stored = read_headers(sorted(folder.glob("*.safetensors")))
    dtypes = {name: tensor.dtype for name, tensor in stored.items()}
    check_stored(str(folder), read_config(folder / "config.json"), dtypes)
    check_tensors(_empty_model(folder), stored, folder)  # a model of its own: the check unties weights
    model = _empty_model(folder)
    config = model.config.get_text_config()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    item_bytes = DTYPE_BYTES[section["dtype"]]
    read, multiplied = _values_per_token(model)
    seed = getattr(model.config, "random_weights_seed", None)
    return ModelManifest(
        name=section["name"],
        source=section["source"],
        origin=_origin(section),
        revision=section.get("revision", "") if section["source"] == "huggingface" else "",
        architecture=type(model).__name__,
        weights="trained" if seed is None else "random",
        parameters=parameters,
        weight_bytes=parameters * item_bytes,
        read_bytes_per_token=read * item_bytes,
        kv_bytes_per_token=_kv_values_per_token(config) * item_bytes,
        flops_per_token=2 * multiplied,
        head_flops=_head_flops(model),
        linear_layers=linear_layers(model, multiplied),
        attention_window=_attention_window(config),
        max_context=_max_context(config),
        vocab_size=config.vocab_size,
        files=file_entries(folder),
    )


def _origin(section: dict[str, Any]) -> str:
    if section["source"] == "synthetic":
        return f"synthetic: {section['architecture']}, seed {section['seed']}"
    return str(section["repo"] if section["source"] == "huggingface" else section["path"])


def _empty_model(folder: Path) -> PreTrainedModel:
    import torch
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    raw = read_config(folder / "config.json")
    if "auto_map" in raw and raw.get("model_type") not in CONFIG_MAPPING:
        raise ValueError(f"{folder}: model type {raw.get('model_type')!r} needs code of its own, which is not run")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{folder}: transformers knows no decoder-only model of type {raw.get('model_type')!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return model


def _values_per_token(model: PreTrainedModel) -> tuple[int, int]:
    """Weights that one decode step reads, and those that it multiplies with the token's activations.

    Of an embedding table a step reads one row, unless the table is tied and read whole as the output matrix. Of
    experts it reads those that the router takes.
    """
    import torch

    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    output = model.get_output_embeddings()
    if output is not None:
        tables.discard(id(output.weight))
    read = multiplied = 0
    for parameter in model.parameters():
        if id(parameter) in tables:
            read += parameter.shape[-1]
            continue
        values = round(parameter.numel() * _active_share(parameter, model.config.get_text_config()))
        read += values
        multiplied += values if parameter.dim() > 1 else 0
    return read, multiplied


def _head_flops(model: PreTrainedModel) -> int:
    """Operations of the projection to the vocabulary, for one position."""
    head = model.get_output_embeddings()
    return 0 if head is None else 2 * int(head.weight.numel())


def linear_layers(model: PreTrainedModel, multiplied: int) -> tuple[LinearLayer, ...]:
    """The products of one forward pass by shape; none where they are not all `multiplied` weights, as with experts."""
    import torch

    head = model.get_output_embeddings()
    shapes: Counter[tuple[int, int, bool]] = Counter()
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.dim() != 2 or isinstance(module, torch.nn.Embedding):
            continue
        outputs, inputs = weight.shape if isinstance(module, torch.nn.Linear) else weight.shape[::-1]  # GPT-2's Conv1D
        shapes[inputs, outputs, module is head] += 1
    layers = tuple(
        LinearLayer(inputs=inputs, outputs=outputs, count=count, head=is_head)
        for (inputs, outputs, is_head), count in shapes.items()
    )
    return layers if sum(layer.inputs * layer.outputs * layer.count for layer in layers) == multiplied else ()


def _attention_window(config: PretrainedConfig) -> int:
    """Positions that the narrowest layer attends to; 0 where all layers attend to all."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return 0
    return int(getattr(config, "sliding_window", None) or 0)


def _active_share(parameter: Any, config: PretrainedConfig) -> float:
    """1, or for the stacked weights `[experts, out, in]` of a mixture the share of experts that one token takes."""
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if experts and parameter.dim() == 3 and parameter.shape[0] == experts:
        return float(config.num_experts_per_tok / experts)
    return 1.0


def _max_context(config: PretrainedConfig) -> int:
    """Positions that the model was made for. Raises ValueError where its config does not say."""
    for name in CONTEXT_FIELDS:
        if value := getattr(config, name, None):
            return int(value)
    raise ValueError(f"config.json of the {config.model_type} model: no {CONTEXT_FIELDS[0]}; add its context length")


def _kv_values_per_token(config: PretrainedConfig) -> int:
    """Keys and values that one position keeps in all layers. Raises ValueError for a model without attention."""
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        raise ValueError(f"a {config.model_type} model has no attention heads, so no KV cache; it cannot be measured")
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        kv_heads = 1  # Falcon and GPT-BigCode say it with a flag
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * config.num_hidden_layers * kv_heads * head_dim)
