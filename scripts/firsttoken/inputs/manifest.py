"""What a model is and what a decode step costs, from its config and the headers of its weights; none is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.inputs.architecture import check_tensors
from firsttoken.inputs.file_entries import file_entries, visible_files
from firsttoken.inputs.model_files import CONTEXT_FIELDS
from firsttoken.inputs.weight_headers import check_stored, parse_object, read_config, read_headers
from firsttoken.plan import DTYPE_BYTES, LinearLayer, ModelManifest

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def describe_model(section: dict[str, Any], folder: Path) -> ModelManifest:
    """The manifest of the model in `folder`, in the study's dtype. Raises ValueError for a model that cannot be served.

    The architecture is built on torch's meta device, which holds shapes only, so it is right for any model that
    AutoModelForCausalLM knows. Of a model that also sees or hears only what a token of text needs is counted.
    """
    model = checked_model(folder, visible_files(folder))
    config = model.config.get_text_config(decoder=True)
    text, head = _text_part(model), model.get_output_embeddings()
    parameters = sum(parameter.numel() for parameter in text.parameters())
    item_bytes = DTYPE_BYTES[section["dtype"]]
    read, multiplied = _values_per_token(text, model)
    seed = getattr(model.config, "random_weights_seed", None)
    cached = _cached_layers(config)
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
        kv_bytes_per_token=sum(values for values, _ in cached) * item_bytes,
        flops_per_token=2 * multiplied,
        head_flops=0 if head is None else 2 * int(head.weight.numel()),
        linear_layers=_linear_layers(text, model, multiplied),
        attention_window=min((window for _, window in cached if window), default=0),
        max_context=served_context(model),
        vocab_size=config.vocab_size,
        files=file_entries(folder),
    )


def checked_model(folder: Path, files: Sequence[Path]) -> PreTrainedModel:
    """The model whose files these are, on the meta device. Raises ValueError where a study cannot use them."""
    for file in files:
        if file.suffix == ".json":
            parse_object(file.read_bytes(), str(file))  # transformers would find a damaged one late, or never
    stored = read_headers(file for file in files if file.suffix == ".safetensors")
    dtypes = {name: tensor.dtype for name, tensor in stored.items()}
    check_stored(str(folder), read_config(folder / "config.json"), dtypes)
    check_tensors(empty_model(folder, str(folder)), stored, folder)
    return empty_model(folder, str(folder))  # another one: the check unties weights


def _origin(section: dict[str, Any]) -> str:
    if section["source"] == "synthetic":
        return f"synthetic: {section['architecture']}, seed {section['seed']}"
    return str(section["repo"] if section["source"] == "huggingface" else section["path"])


def empty_model(folder: Path, place: str) -> PreTrainedModel:
    """The decoder that the folder's config.json describes, on torch's meta device.

    Raises ValueError for a model that is no decoder with a KV cache, or that transformers does not know; `place` names
    the model in it.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()  # what it warns about is decided here
    raw = read_config(folder / "config.json")
    kind = raw.get("model_type")
    if "auto_map" in raw and kind not in CONFIG_MAPPING:
        raise ValueError(
            f"{place}: model type {kind!r} needs code of its own, which is not run; name a model that transformers "
            "knows by itself"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # each family's own code reads its config
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise ValueError(
            f"{place}: transformers makes no decoder-only model of type {kind!r} from config.json ({reason}); "
            "name another model"
        ) from error
    # Encoders have the same classes as decoders made of them, which attend to earlier tokens only.
    if any(getattr(module, "is_decoder", None) is False for module in _text_part(model).modules()):
        raise ValueError(
            f"{place}: a {kind} model whose tokens attend to later ones, too, so that it cannot write text; "
            "name a decoder-only model"
        )
    return model


def _text_part(model: PreTrainedModel) -> torch.nn.ModuleList:
    """What a token of text runs through: the language model and its head."""
    import torch
    from transformers import PreTrainedModel

    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if not isinstance(decoder, PreTrainedModel):  # some families call their head so
        return torch.nn.ModuleList([model])
    return torch.nn.ModuleList([part for part in (decoder, head) if part is not None])


def _values_per_token(text: torch.nn.ModuleList, model: PreTrainedModel) -> tuple[int, int]:
    """Weights that one decode step reads, and those that it multiplies with the token's activations.

    Of an embedding table a step reads one row, unless the table is tied and read whole as the output matrix. Of
    experts it reads those that the router takes.
    """
    import torch

    tables = {id(module.weight) for module in text.modules() if isinstance(module, torch.nn.Embedding)}
    output = model.get_output_embeddings()
    if output is not None:
        tables.discard(id(output.weight))
    read = multiplied = 0
    for parameter in text.parameters():
        if id(parameter) in tables:
            read += parameter.shape[-1]
            continue
        values = round(parameter.numel() * _active_share(parameter, model.config.get_text_config(decoder=True)))
        read += values
        multiplied += values if parameter.dim() > 1 else 0
    return read, multiplied


def _linear_layers(text: torch.nn.ModuleList, model: PreTrainedModel, multiplied: int) -> tuple[LinearLayer, ...]:
    """The products of one forward pass by shape; none where they are not all `multiplied` weights, as with experts."""
    import torch

    head = model.get_output_embeddings()
    shapes: Counter[tuple[int, int, bool]] = Counter()
    for module in text.modules():
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


def _active_share(parameter: Any, config: PretrainedConfig) -> float:
    """1, or for the stacked weights `[experts, out, in]` of a mixture the share of experts that one token takes."""
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if experts and parameter.dim() == 3 and parameter.shape[0] == experts:
        return float(config.num_experts_per_tok / experts)
    return 1.0


def served_context(model: PreTrainedModel) -> int:
    """Positions that the model was made for. Raises ValueError where its config does not say, or without a KV cache."""
    config = model.config.get_text_config(decoder=True)
    _cached_layers(config)
    for name in CONTEXT_FIELDS:
        if (value := getattr(config, name, None)) and value > 0:
            return int(value)
    raise ValueError(f"config.json of the {config.model_type} model: no {CONTEXT_FIELDS[0]}; add its context length")


def _cached_layers(config: PretrainedConfig) -> list[tuple[int, int]]:
    """Of each layer with a KV cache of its own: values that one position keeps, and positions that the layer attends to
    (0: all). Raises ValueError for a model without attention."""
    from transformers import DynamicCache
    from transformers.cache_utils import CacheLayerMixin

    found = []
    # A layer without keys and values is recurrent, has no attention or uses those of an earlier layer.
    for layer, part in zip(DynamicCache(config=config).layers, config.per_layer_config, strict=False):
        heads = getattr(part, "num_attention_heads", None)
        if not heads or not isinstance(layer, CacheLayerMixin):
            continue
        kv_heads = getattr(part, "num_key_value_heads", None) or heads
        if getattr(part, "multi_query", False) and not getattr(part, "new_decoder_architecture", False):
            kv_heads = 1  # Falcon and GPT-BigCode say it with a flag
        head_dim = getattr(part, "head_dim", None) or part.hidden_size // heads
        found.append((int(2 * kv_heads * head_dim), int(getattr(layer, "sliding_window", None) or 0)))
    if not found:
        raise ValueError(
            f"a {config.model_type} model has no attention, so no KV cache; it cannot be measured: name a transformer"
        )
    return found
