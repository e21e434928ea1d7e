"""What config.json and the headers of safetensors files say about the weights. Neither torch nor a weight is needed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

MAX_HEADER_BYTES = 100_000_000
STORED_BYTES = {"F32": 4, "F16": 2, "BF16": 2}  # the dtypes that are measured
# Masks and positions that older checkpoints carry in any dtype; transformers does not load them.
_BUFFERS = re.compile(r"(^|\.)((attn|attention|crossattention)\.(bias|masked_bias)|rotary_emb\.inv_freq|position_ids)$")


class StoredTensor(msgspec.Struct, frozen=True):
    """A tensor's entry in a safetensors header."""

    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


def read_config(path: Path) -> dict[str, Any]:
    """The model's config.json. Raises ValueError in one line where it is no JSON mapping."""
    return parse_object(path.read_bytes(), str(path))


def parse_object(text: bytes | str, place: str) -> dict[str, Any]:
    """A JSON mapping. `place` names the file in the ValueError that anything else raises."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: no valid JSON ({str(error).splitlines()[0]}); fetch the model again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{place}: found a JSON {type(found).__name__}, not a mapping; fetch the model again")
    return found


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
    """Raise ValueError for weights that are quantised. `place` names the model; `dtypes`: tensor -> stored dtype."""
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping) and part.get("quantization_config") is not None:
            quantization = part["quantization_config"]
            method = quantization.get("quant_method", "") if isinstance(quantization, Mapping) else ""
            raise ValueError(
                f"{place}: config.json has a quantization_config{f' ({method})' if method else ''}; "
                "only float32, float16 and bfloat16 weights are measured: name a model that is not quantised"
            )
    for name, dtype in dtypes.items():
        if dtype not in STORED_BYTES and not _BUFFERS.search(name):
            raise ValueError(
                f"{place}: tensor {name} is stored as {dtype}; "
                "only F32, F16 and BF16 are measured: name a model that is neither quantised nor packed"
            )


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """The header of one file: 8 bytes with its length, then JSON, then the values, which must all be there."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise _not_whole(path, f"a header of {length:,} bytes in a file of {size:,}")
        header = parse_object(stream.read(length), f"{path}: header")
    header.pop("__metadata__", None)
    try:
        tensors = msgspec.convert(header, dict[str, StoredTensor])
    except msgspec.ValidationError as error:
        raise _not_whole(path, f"header: {error}") from error
    for name, tensor in tensors.items():
        start, end = tensor.data_offsets
        expected = math.prod(tensor.shape) * STORED_BYTES.get(tensor.dtype, 0)
        if tensor.dtype in STORED_BYTES and end - start != expected:
            raise _not_whole(path, f"{name} of shape {list(tensor.shape)} takes {end - start:,} bytes")
    values = max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if 8 + length + values != size:
        raise _not_whole(path, f"{size:,} bytes, its header promises {8 + length + values:,}")
    return tensors


def _not_whole(path: Path, found: str) -> ValueError:
    return ValueError(f"{path}: no whole safetensors file ({found}); fetch the model again")
