"""Which files of a repository or folder make a model: config, tokenizer, safetensors; nothing that can run code."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from firsttoken.inputs.weight_headers import parse_object

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# What configs call the number of positions: most models, GPT-2 and its kin, MPT, Bloom.
CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    *TOKENIZER_FILES,
)


def small_files(names: Collection[str]) -> list[str]:
    """Those of `names` that describe the model and its tokenizer; only the top folder counts."""
    return [name for name in _SMALL_FILES if name in names]


def weight_files(names: Collection[str], index: bytes | str | None) -> list[str]:
    """The safetensors files that hold the weights, once: `index` is the content of the index file, where there is one.

    Repositories carry the same weights several times (pickled, in another layout); only what transformers would load is
    named. Raises ValueError, without the place, if there are none or some are missing.
    """
    if index is not None:
        weight_map = parse_object(index, INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError(f"{INDEX} has no weight_map that names files; fetch the model again")
        wanted = sorted({str(name) for name in weight_map.values()})
        # A path would lead out of the folder; a hidden file is not hashed.
        foreign = [name for name in wanted if not re.fullmatch(r"\w[\w.-]*\.safetensors", name)]
        if foreign:
            raise ValueError(
                f"{INDEX} names {foreign[0][:100]!r}, which is no safetensors file beside it; fetch the model again"
            )
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"{INDEX} names {missing[0]}, which is missing; fetch the model again")
        return [INDEX, *wanted]
    if SINGLE in names:
        return [SINGLE]
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
        raise ValueError(
            "only pickled weights, which are not loaded since they can run code; convert them with "
            "save_pretrained(folder), which writes safetensors"
        )
    raise ValueError(f"no weights; {SINGLE} or {INDEX} is needed")


def check_names(names: Collection[str]) -> None:
    """Raise ValueError, without the place, for an adapter or GGUF, and where config or tokenizer is missing."""
    if "adapter_config.json" in names:
        raise ValueError(
            "an adapter (adapter_config.json), not a whole model; merge it into its base model with peft's "
            "merge_and_unload(), save that with its tokenizer and name its folder"
        )
    if any(name.endswith(".gguf") for name in names) and not any(name.endswith(".safetensors") for name in names):
        raise ValueError("only GGUF weights, which transformers does not run; name the model that they were made from")
    if "config.json" not in names:
        raise ValueError("no config.json, so it is no transformers model; name the folder that holds it")
    if not any(name in names for name in TOKENIZER_FILES):
        raise ValueError(f"no tokenizer; one of {', '.join(TOKENIZER_FILES)} is needed to cut prompts")


def model_files(folder: Path) -> list[str]:
    """All files of a local model, which are in its folder even where they are links.

    Raises ValueError that names the folder and what is wrong with it.
    """
    if folder.suffix == ".gguf" and folder.is_file():
        raise ValueError(f"{folder} is a GGUF file; name the folder of the transformers model that it was made from")
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give the path of a model that was saved with transformers")
    names = {path.name for path in folder.iterdir() if path.is_file()}
    try:
        check_names(names)
        index = (folder / INDEX).read_bytes() if INDEX in names else None
        wanted = small_files(names) + weight_files(names, index)
        _check_links(folder, wanted)
        return wanted
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _check_links(folder: Path, names: Collection[str]) -> None:
    """Raise ValueError, without the place, for a link out of the model: someone else's model may name a secret file.

    In the hub's cache a model is `snapshots/REVISION` with links into `blobs` beside `snapshots`.
    """
    real = folder.resolve()
    homes = [real, real.parents[1] / "blobs"] if real.parent.name == "snapshots" else [real]
    for name in names:
        target = (folder / name).resolve()
        if not any(target.is_relative_to(home) for home in homes):
            raise ValueError(f"{name} is a link to {target}, outside of the model; put the file itself there")
