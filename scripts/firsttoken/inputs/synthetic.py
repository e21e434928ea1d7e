"""Models made here: a transformers config, seeded random weights, a tokenizer trained on the corpus.

A weight's values depend on the seed, the parameter's name and the position in it, and on nothing else: neither the
device, nor the number of threads, nor the other parameters. Weights are made one shard at a time in the study's
dtype, so that a 7B model takes 2 GB of memory and not 27.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firsttoken.inputs.model_files import INDEX

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
TOKENIZER_VOCABULARY = 2048
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)  # every byte, so that any text can be encoded
SHARD_BYTES = 2 * 1024**3
CHUNK_VALUES = 1 << 24  # values drawn from one generator; fixed, since it decides the weights

# The small default of each architecture: two layers that decode in about a millisecond on one CPU core. Names as
# transformers has them for most models; its configs translate them (GPT-2's n_embd, n_layer).
_SMALL: dict[str, int] = {
    "vocab_size": TOKENIZER_VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}
_GATED = {**_SMALL, "intermediate_size": 352, "num_key_value_heads": 2}
SMALL_SHAPES: dict[str, dict[str, int]] = {
    "llama": _GATED,
    "mistral": {**_GATED, "sliding_window": 512},
    "qwen3": _GATED,
    "gemma": _GATED,
    "gpt2": _SMALL,
}
# The fields that a shape may give; all are numbers, switches or names.
_ALL_HAVE = {*_SMALL, "initializer_range", "tie_word_embeddings"}
_GATED_HAVE = _ALL_HAVE | {*_GATED, "head_dim", "hidden_act", "rms_norm_eps"}
FIELDS: dict[str, set[str]] = {
    "llama": _GATED_HAVE | {"attention_bias", "mlp_bias"},
    "mistral": _GATED_HAVE | {"sliding_window"},
    "qwen3": _GATED_HAVE | {"attention_bias", "max_window_layers", "sliding_window", "use_sliding_window"},
    "gemma": _GATED_HAVE | {"attention_bias"},
    "gpt2": _ALL_HAVE | {"activation_function", "layer_norm_epsilon", "n_inner"},
}
MOST_PARAMETERS = 10**12  # two terabytes in half precision
# What transformers calls the same field in other models; a shape may use either name.
_SYNONYMS = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}


def complete_shape(architecture: str, shape: dict[str, Any]) -> dict[str, Any]:
    """The config fields of a synthetic model: the architecture's small default with `shape` laid over it.

    What follows from other fields is derived unless it is given: heads that are changed alone have as many key-value
    heads; a head is as wide as the hidden size over the heads; the initialiser's deviation keeps a matrix product at
    the scale that 0.02 gives at a width of 4096, so that a small model's attention is not uniform and its greedy
    tokens have no near-ties.
    """
    if architecture not in SMALL_SHAPES:
        raise ValueError(f"model.architecture: {architecture!r} cannot be made; known: {', '.join(SMALL_SHAPES)}")
    given = {_SYNONYMS.get(name, name): value for name, value in shape.items()}
    if unknown := sorted(given.keys() - FIELDS[architecture]):
        known = ", ".join(sorted(FIELDS[architecture]))
        raise ValueError(f"model.shape.{unknown[0][:40]}: {architecture} has no such field; known: {known}")
    if len(given) < len(shape):
        raise ValueError(f"model.shape: found {', '.join(shape)}; two of them name the same field, give one")
    fields: dict[str, Any] = {**SMALL_SHAPES[architecture], **given}
    for name in SMALL_SHAPES[architecture]:
        if type(fields[name]) is not int or fields[name] < 1:
            raise ValueError(f"model.shape.{name}: {fields[name]!r} is no positive whole number; give one")
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    if "num_key_value_heads" in fields:
        if "num_attention_heads" in given and "num_key_value_heads" not in given:
            fields["num_key_value_heads"] = heads
        if heads % fields["num_key_value_heads"]:
            raise ValueError(
                f"model.shape: {heads} attention heads cannot share {fields['num_key_value_heads']} key-value heads; "
                "change one of them"
            )
        if "head_dim" not in given:
            fields["head_dim"] = hidden // heads
    if hidden % heads and "head_dim" not in given:
        raise ValueError(
            f"model.shape: hidden_size {hidden} is no multiple of {heads} attention heads; change one of them"
        )
    if fields.get("head_dim", 2) % 2:
        raise ValueError(f"model.shape: a head is {fields['head_dim']} wide; rotary positions need an even width")
    if fields["vocab_size"] < SMALLEST_VOCABULARY:
        raise ValueError(
            f"model.shape.vocab_size: {fields['vocab_size']} is too small; "
            f"{SMALLEST_VOCABULARY} are needed for every byte"
        )
    parameters = parameters_of(fields)
    if parameters > MOST_PARAMETERS:
        raise ValueError(f"model.shape: makes about {parameters:.0e} parameters; must be at most {MOST_PARAMETERS:.0e}")
    fields.setdefault("initializer_range", round(1.28 / hidden**0.5, 4))
    return fields


def parameters_of(fields: dict[str, Any]) -> int:
    """About how many parameters a synthetic model has."""
    hidden = fields["hidden_size"]
    inner = fields.get("intermediate_size", fields.get("n_inner", 4 * hidden))
    return int(fields["num_hidden_layers"] * hidden * (4 * hidden + 3 * inner) + fields["vocab_size"] * hidden)


def make_model(section: dict[str, Any], folder: Path, corpus: Path) -> None:
    """Write config, tokenizer and weights of the config's `model` section into `folder`, which exists."""
    fields = complete_shape(section["architecture"], section["shape"])
    _write_tokenizer(corpus, min(TOKENIZER_VOCABULARY, fields["vocab_size"]), fields["max_position_embeddings"], folder)
    config = _model_config(section["architecture"], fields, section["dtype"], section["seed"])
    _write_weights(config, section["dtype"], section["seed"], folder)


def _write_tokenizer(corpus: Path, vocabulary: int, max_context: int, folder: Path) -> None:
    """Train a byte-level BPE on the corpus; deterministic. It puts `<s>` before a text, as Llama's does."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = ByteLevelBPETokenizer()
    text, special = corpus.read_text(encoding="utf-8"), list(SPECIAL_TOKENS)
    tokenizer.train_from_iterator([text], vocabulary, min_frequency=0, show_progress=False, special_tokens=special)
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", SPECIAL_TOKENS.index("<s>"))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_context,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _model_config(architecture: str, fields: dict[str, Any], dtype: str, seed: int) -> PretrainedConfig:
    """The transformers config."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        architecture,
        **fields,
        dtype=dtype,
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        bos_token_id=SPECIAL_TOKENS.index("<s>"),
        eos_token_id=SPECIAL_TOKENS.index("</s>"),
        random_weights_seed=seed,  # so that a copy of this folder still says what its weights are
    )


def _write_weights(config: PretrainedConfig, dtype_name: str, seed: int, folder: Path) -> None:
    """Shards of at most about SHARD_BYTES, their index if there are several, and the two configs."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, GenerationConfig

    dtype = getattr(torch, dtype_name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    split = split_torch_state_dict_into_shards(dict(model.named_parameters()), max_shard_size=SHARD_BYTES)
    for file, names in split.filename_to_tensors.items():
        save_file(_random_weights(model, names, dtype, seed), folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    ).save_pretrained(folder)


def _random_weights(model: PreTrainedModel, names: list[str], dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    """Values of the named parameters, by the rules of the model's own initialiser."""
    import torch

    std = float(model.config.initializer_range)
    weights: dict[str, torch.Tensor] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = []
        for name in names:
            parameter = model.get_parameter(name)
            if parameter.dim() < 2:
                weights[name] = _vector(model, name, dtype)
                continue
            weights[name] = torch.empty(parameter.shape, dtype=dtype)
            chunks = weights[name].view(-1).split(CHUNK_VALUES)
            jobs += [pool.submit(_fill_normal, chunk, std, name, i, seed) for i, chunk in enumerate(chunks)]
        for job in jobs:
            job.result()
    return weights


def _fill_normal(values: torch.Tensor, std: float, name: str, chunk: int, seed: int) -> None:
    """Fill one chunk of a parameter from its own generator; numpy's: the same values on every machine."""
    import torch

    name_key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, name_key, chunk])))
    drawn = generator.standard_normal(values.numel(), dtype=np.float32)
    values.copy_(torch.from_numpy(drawn).mul_(std))


def _vector(model: PreTrainedModel, name: str, dtype: torch.dtype) -> torch.Tensor:
    """A bias or a norm's weight: what the model's own initialiser sets (zeros; ones; Gemma's norms: zeros)."""
    import torch

    path, _, leaf = name.rpartition(".")
    if leaf == "bias":  # a module with a bias may hold a large matrix too, which must not be made here
        return torch.zeros(model.get_parameter(name).shape, dtype=dtype)
    module = model.get_submodule(path)
    module.to_empty(device="cpu", recurse=False)
    model._init_weights(module)
    vector: torch.Tensor = getattr(module, leaf).detach().to(dtype).clone()
    return vector
