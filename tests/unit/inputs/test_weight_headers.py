"""Headers and configs of quantised, packed and broken weights: one line each, without torch."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from firsttoken.inputs.checks import model_problem
from firsttoken.inputs.manifest import describe_model
from firsttoken.inputs.weight_headers import check_stored, read_headers
from unit.inputs.weights import Tensors, changed_copy, with_config

torch = pytest.importorskip("torch")

UP = "model.layers.0.mlp.up_proj.weight"
GPTQ = {"quant_method": "gptq", "bits": 4}


def section(folder: Path) -> dict[str, Any]:
    return {"name": "x", "source": "local", "dtype": "float32", "path": str(folder)}


def stored_as(dtype: Any) -> Any:
    def change(tensors: Tensors) -> None:
        tensors[UP] = torch.zeros(tensors[UP].shape).to(dtype)

    return change


def packed(tensors: Tensors) -> None:
    tensors.pop(UP)
    tensors[UP.replace("weight", "qweight")] = torch.zeros(44, 128, dtype=torch.int32)


DTYPES = {
    "8 bits": (stored_as(torch.int8), "I8"),
    "bitsandbytes": (stored_as(torch.uint8), "U8"),
    "F8": (stored_as(torch.float8_e4m3fn), "F8_E4M3"),
    "GPTQ": (packed, "I32"),
    "F64": (stored_as(torch.float64), "F64"),
}


@pytest.mark.parametrize("case", DTYPES)
@pytest.mark.parametrize("told", [True, False], ids=["told by the config", "by the dtype alone"])
def test_other_dtypes_are_refused_before_any_job_and_at_the_fetch(
    case: str, told: bool, llama_folder: Path, tmp_path: Path
) -> None:
    change, dtype = DTYPES[case]
    folder = changed_copy(llama_folder, tmp_path / "model", change)
    if told:
        with_config(folder, quantization_config=GPTQ)
    words = "config.json has a quantization_config (gptq)" if told else f"weight is stored as {dtype}; only F32, F16"
    problem = model_problem(section(folder))
    assert problem is not None and problem.startswith("model.path: ") and "\n" not in problem
    assert words.replace("weight is", "is") in problem
    with pytest.raises(ValueError, match=re.escape(words.replace("weight is", "is"))):
        describe_model(section(folder), folder)


@pytest.mark.parametrize(
    "fields",
    [{"quantization_config": GPTQ}, {"quantization_config": {}}, {"text_config": {"quantization_config": GPTQ}}],
)
def test_a_quantization_config_alone(fields: dict[str, Any], llama_folder: Path, tmp_path: Path) -> None:
    folder = with_config(changed_copy(llama_folder, tmp_path / "model", lambda tensors: None), **fields)
    problem = model_problem(section(folder))
    assert problem is not None and "config.json has a quantization_config" in problem


def test_what_is_no_weight_may_have_any_dtype() -> None:
    buffers = {"h.0.attn.bias": "U8", "gpt_neox.layers.0.attention.bias": "BOOL", "bert.position_ids": "I64"}
    check_stored("x", {"quantization_config": None}, {**buffers, "a.weight": "BF16"})
    with pytest.raises(ValueError, match=r"tensor h\.0\.attn\.c_attn\.bias is stored as U8"):
        check_stored("x", {}, {"h.0.attn.c_attn.bias": "U8"})


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def safetensors(header: Any, values: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + values


BROKEN = {
    "empty": b"",
    "short": b"\1\2\3",
    "length beyond the file": safetensors({}, length=3000),
    "length beyond the limit": safetensors({}, length=100_000_001),
    "huge": safetensors({}, length=2**64 - 1),
    "no JSON": safetensors(b"{not JSON}"),
    "no UTF-8": safetensors(b"\xff\xfe\x00"),
    "nested": safetensors(b"[" * 200_000),
    "a list": safetensors([1]),
    "no entry": safetensors({"a": 1}),
    "no shape": safetensors({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
    "negative shape": safetensors({"a": {**ENTRY, "shape": [-2]}}, bytes(8)),
    "shape of more values": safetensors({"a": {**ENTRY, "shape": [2, 10**30]}}, bytes(8)),
    "cut": safetensors({"a": ENTRY}, bytes(7)),
    "more than promised": safetensors({"a": ENTRY}, bytes(9)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_header_garbage_is_one_line(case: str, llama_folder: Path, tmp_path: Path) -> None:
    folder = changed_copy(llama_folder, tmp_path / "model", lambda tensors: None)
    (folder / "model.safetensors").write_bytes(BROKEN[case])
    problem = model_problem(section(folder))
    assert problem is not None and "\n" not in problem and len(problem) < 400
    assert "model.safetensors" in problem and problem.endswith("fetch the model again")


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).write_bytes(safetensors({"a": ENTRY}, bytes(8)))
    with pytest.raises(ValueError, match=r"/2: holds a, which another file of the model holds"):
        read_headers([tmp_path / "1", tmp_path / "2"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "config.json: no valid JSON"),
        (b"[1]", "config.json: found a JSON list"),
        (b"\xff\xfe", "config.json: no valid JSON"),
        (b"[" * 200_000, "config.json: no valid JSON"),
        (b'{"max_position_embeddings": "many"}', "max_position_embeddings is 'many'"),
        (b'{"max_position_embeddings": -4}', "max_position_embeddings is -4"),
        (b'{"text_config": "none"}', "text_config is 'none'"),
    ],
)
def test_a_config_that_says_nothing(content: bytes, words: str, llama_folder: Path, tmp_path: Path) -> None:
    folder = changed_copy(llama_folder, tmp_path / "model", lambda tensors: None)
    (folder / "config.json").write_bytes(content)
    problem = model_problem(section(folder))
    assert problem is not None and words in problem and "\n" not in problem
