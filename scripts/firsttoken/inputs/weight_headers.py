"""What config.json and the headers of safetensors files say about the weights. Neither torch nor a weight is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

MEASURED_DTYPES = ("F32", "F16", "BF16")
LFS_POINTER = b"version https://git-lfs"
# Masks and positions that older checkpoints carry in any dtype; transformers does not load them.
_BUFFERS = re.compile(r"(^|\.)((attn|attention|crossattention)\.(bias|masked_bias)|rotary_emb\.inv_freq|position_ids)$")


class StoredTensor(NamedTuple):
    """A tensor's entry in a safetensors header."""

    dtype: str
    shape: tuple[int, ...]


def read_config(path: Path) -> dict[str, Any]:
    """The model's config.json. Raises ValueError in one line where it is no JSON mapping."""
    return parse_object(path.read_bytes(), str(path))


def parse_object(text: bytes | str, place: str) -> dict[str, Any]:
    """A JSON mapping. `place` names the file in the ValueError that anything else raises."""
    check_pointer(text if isinstance(text, bytes) else text.encode(), place)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: no valid JSON ({str(error).splitlines()[0]}); fetch the model again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{place}: found a JSON {type(found).__name__}, not a mapping; fetch the model again")
    return found


def check_pointer(start: bytes, place: str) -> None:
    """Raise ValueError for what `git clone` leaves in the place of a large file."""
    if start.startswith(LFS_POINTER):
        raise ValueError(f"{place}: a pointer of Git LFS, not the file; run `git lfs pull` in its folder")


def read_headers(paths: Iterable[Path]) -> dict[str, StoredTensor]:
    """Every tensor of some safetensors files, by name. Raises ValueError for a file that is not whole."""
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        header = _read_header(path)
        if twice := sorted(tensors.keys() & header.keys()):
            raise ValueError(
                f"{path}: holds {twice[0]}, which another file of the model holds, too; remove one of them"
            )
        tensors |= header
    return tensors


def check_stored(place: str, config: Mapping[str, Any], dtypes: Mapping[str, str]) -> None:
    """Raise ValueError for weights that are quantised, and for encoder-decoders. `place` names the model; `dtypes`:
    tensor -> stored dtype."""
    if config.get("is_encoder_decoder"):
        raise ValueError(
            f"{place}: an encoder-decoder model ({config.get('model_type')}), which reads with another network than "
            "it writes with; name a decoder-only model"
        )
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping) and part.get("quantization_config") is not None:
            quantization = part["quantization_config"]
            method = quantization.get("quant_method", "") if isinstance(quantization, Mapping) else ""
            raise ValueError(
                f"{place}: config.json has a quantization_config{f' ({method})' if method else ''}; "
                "only float32, float16 and bfloat16 weights are measured: name a model that is not quantised"
            )
    for name, dtype in dtypes.items():
        if dtype not in MEASURED_DTYPES and not _BUFFERS.search(name):
            raise ValueError(
                f"{place}: tensor {name} is stored as {dtype}; "
                "only F32, F16 and BF16 are measured: name a model that is neither quantised nor packed"
            )


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """The header of one file. The library compares it with the size of the file, too."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as stream:
        check_pointer(stream.read(len(LFS_POINTER)), str(path))
    try:
        with safe_open(path, framework="numpy") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            return {name: StoredTensor(part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    except SafetensorError as error:
        raise ValueError(f"{path}: no whole safetensors file ({str(error)[:100]}); fetch the model again") from error
