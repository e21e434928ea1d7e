"""A GGUF file, llama.cpp's own format, from a Hugging Face model folder (config.json and safetensors).

Only token ids go in and out, so there is no vocabulary in it. One tensor at a time is read from the mapped file and
written, so the model is never in memory as a whole. Runs without PyTorch.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.external.llama_cpp.model_shape import Shape, llama3_factors, read_shape
from firsttoken.plan import Unsupported

if TYPE_CHECKING:
    import numpy as np

    Values = np.ndarray[Any, np.dtype[Any]]

GGUF_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # of a plan's dtype
STORED_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # of safetensors and GGUF; numpy has no bfloat16


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file."""

    name: str
    dtype: str  # a key of STORED_TYPES
    shape: tuple[int, ...]
    file: Path
    start: int  # of its bytes in the file

    def read(self) -> Values:
        """Its values, mapped from the file and not yet read; bfloat16 as uint16."""
        import numpy as np

        return np.memmap(self.file, dtype=STORED_TYPES[self.dtype], mode="r", offset=self.start, shape=self.shape)


def stored_tensors(model_dir: Path) -> list[StoredTensor]:
    """All tensors of a folder's safetensors files, in the order of the files. Raises `Unsupported` for a type that is
    no float of 16 or 32 bits, and ValueError where there is no file."""
    files = sorted(model_dir.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{model_dir}: no safetensors file; fetch the model again")
    found = []
    for file in files:
        with open(file, "rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(header_bytes))
        for name, entry in header.items():
            # Older checkpoints carry positions in any dtype, which transformers does not load.
            if name == "__metadata__" or name.endswith("rotary_emb.inv_freq"):
                continue
            if entry["dtype"] not in STORED_TYPES:
                raise Unsupported(f"{name} is stored as {entry['dtype']}; only {', '.join(STORED_TYPES)} are converted")
            start = 8 + header_bytes + int(entry["data_offsets"][0])
            found.append(StoredTensor(name, entry["dtype"], tuple(entry["shape"]), file, start))
    return found


def write_gguf(model_dir: Path, dtype: str, target: Path) -> Shape:
    """Write the model to `target` with its matrices in `dtype` (a key of `GGUF_TYPES`).

    Vectors (norms, biases) are float32, as llama.cpp's own converter writes them. Raises `Unsupported` with one
    sentence for a model that cannot be written; `target` is then incomplete.
    """
    import gguf

    shape = read_shape(json.loads((model_dir / "config.json").read_text(encoding="utf-8")))
    tensors = stored_tensors(model_dir)
    if shape.tied:  # llama.cpp takes the embedding where there is no head
        tensors = [tensor for tensor in tensors if tensor.name != "lm_head.weight"]
    elif all(tensor.name != "lm_head.weight" for tensor in tensors):
        raise Unsupported("the model has no lm_head.weight, and its config.json does not tie it to the embedding")
    rope_factors = llama3_factors(shape.rope, shape.head_dim) if shape.rope.kind == "llama3" else None
    writer = gguf.GGUFWriter(str(target), shape.architecture)
    try:
        _add_parameters(writer, shape, dtype)
        if rope_factors is not None:
            writer.add_tensor_info("rope_freqs.weight", rope_factors.shape, rope_factors.dtype, rope_factors.nbytes)
        _add_tensors(writer, shape, tensors, dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if rope_factors is not None:
            writer.write_tensor_data(rope_factors)
        for tensor in tensors:
            values = llama_order(tensor.read(), tensor.name, shape)
            writer.write_tensor_data(converted(values, tensor.dtype, _written_type(tensor, dtype)))
    finally:
        writer.close()
    return shape


def _add_parameters(writer: Any, shape: Shape, dtype: str) -> None:
    import gguf

    file_types = {
        "float32": gguf.LlamaFileType.ALL_F32,
        "float16": gguf.LlamaFileType.MOSTLY_F16,
        "bfloat16": gguf.LlamaFileType.MOSTLY_BF16,
    }
    writer.add_file_type(file_types[dtype])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(shape.max_context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope.theta)
    if shape.rope.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.rope.parameters["factor"])


def _add_tensors(writer: Any, shape: Shape, tensors: list[StoredTensor], dtype: str) -> None:
    import gguf
    import numpy as np

    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == shape.architecture)
    names = gguf.get_tensor_name_map(architecture, shape.layers)
    for tensor in tensors:
        name = names.get_name(tensor.name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise Unsupported(f"llama.cpp's {shape.architecture} has no place for the tensor {tensor.name}")
        written = _written_type(tensor, dtype)
        numpy_type = np.dtype(STORED_TYPES[written])
        size = math.prod(tensor.shape) * numpy_type.itemsize
        writer.add_tensor_info(name, tensor.shape, numpy_type, size, raw_dtype=gguf.GGMLQuantizationType[written])


def _written_type(tensor: StoredTensor, dtype: str) -> str:
    return "F32" if len(tensor.shape) == 1 else GGUF_TYPES[dtype]


def llama_order(values: Values, name: str, shape: Shape) -> Values:
    """Rows of Q and K as llama.cpp's `llama` wants them; all else unchanged.

    Its rotary embedding turns neighbouring values, Hugging Face's turns values half a head apart: row `half + i` of a
    head goes behind row `i`. The other architectures turn as Hugging Face does.
    """
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(name.split(".")[-2])
    if heads is None or shape.architecture != "llama":
        return values
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def converted(values: Values, stored: str, written: str) -> Values:
    """Values of type `stored` as `written` (keys of STORED_TYPES), rounded to nearest even; bfloat16 is uint16."""
    import numpy as np

    if stored == written:
        return values
    single = (values.astype(np.uint32) << 16).view(np.float32) if stored == "BF16" else values.astype(np.float32)
    if written == "F32":
        return single
    if written == "F16":
        return single.astype(np.float16)
    bits = single.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(single), 0x7FC0, rounded).astype(np.uint16)
