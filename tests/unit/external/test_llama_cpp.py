"""What is read from a model's folder, how values become GGUF's, which library is taken: without llama.cpp itself."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from firsttoken.external.llama_cpp import library
from firsttoken.external.llama_cpp.engine import GGUF_FILE, find_gguf, manifest_path
from firsttoken.external.llama_cpp.gguf_file import converted, llama_order, stored_tensors
from firsttoken.external.llama_cpp.model_shape import Rope, llama3_factors, read_rope, read_shape
from firsttoken.files import write_json
from firsttoken.plan import Plan, Unsupported
from firsttoken.results import EngineManifest, Setting
from unit.tiny_models import build_tiny_model

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def config_of(family: str = "llama_gqa", **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {**build_tiny_model(family).config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    return {key: value for key, value in {**config, **changes}.items() if value != "absent"}


# ---------------------------------------------------------------- config.json


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, Rope(5e5, "default", {})),
        ({"rope_parameters": "absent", "rope_theta": 1e6}, Rope(1e6, "default", {})),
        ({"rope_parameters": "absent"}, Rope(1e4, "default", {})),
        (
            {"rope_parameters": "absent", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}},
            Rope(5e5, "linear", {"factor": 4.0}),
        ),
        (
            {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}},
            Rope(5e5, "llama3", {key: value for key, value in LLAMA3.items() if isinstance(value, (int, float))}),
        ),
    ],
)
def test_rotary_positions_are_read_in_the_forms_of_transformers_4_and_5(
    changes: dict[str, Any], expected: Rope
) -> None:
    assert read_rope(config_of(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "no GGUF file is written for GPT2LMHeadModel"),
        ({"architectures": None}, "none named in config.json"),
        ({"hidden_act": "gelu"}, "silu, the model has gelu"),
        ({"max_position_embeddings": "absent"}, "config.json has no max_position_embeddings"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "type yarn are not converted"),
        (
            {"architectures": ["Qwen2ForCausalLM"], "rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
            "qwen2 has no rotary positions of type llama3",
        ),
        ({"architectures": ["Qwen3ForCausalLM"], "attention_bias": True}, "qwen3 has no biases of the attention"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "differ by layer type"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "the model rotates a part"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_sentence(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsupported, match=reason) as error:
        read_shape(config_of(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({}, 0),
        ({"sliding_window": 8}, 8),
        ({"sliding_window": 8, "use_sliding_window": False}, 0),
        ({"sliding_window": 8, "layer_types": ["full_attention", "full_attention"]}, 0),
        ({"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]}, 8),
    ],
)
def test_the_window_of_the_narrowest_layer(changes: dict[str, Any], window: int) -> None:
    assert read_shape(config_of(**changes)).window == window


def test_llama_3_factors_are_those_of_transformers() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = {**LLAMA3, "rope_theta": 1e4}
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, rope_parameters=parameters)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1e4 ** (-torch.arange(0, 64, 2) / 64)
    factors = llama3_factors(read_rope({"rope_parameters": parameters}), head_dim=64)
    assert len(set(factors.tolist())) > 3, "all three ranges of wavelengths are in it"
    np.testing.assert_allclose(factors, (plain / scaled).numpy(), rtol=1e-5)


# ---------------------------------------------------------------- tensors


@given(st.lists(st.floats(width=32), min_size=1, max_size=30))
@settings(deadline=None)
def test_values_are_rounded_as_pytorch_rounds_them(numbers: list[float]) -> None:
    single = torch.tensor(numbers, dtype=torch.float32)
    for stored, stored_type in (("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)):
        source = single.to(stored_type)
        for written, written_type in (("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)):
            with np.errstate(over="ignore", invalid="ignore"):
                got = converted(as_numpy(source), stored, written)
            expected = source.to(written_type)
            back = torch.from_numpy(got.view(np.int16)).view(torch.bfloat16) if written == "BF16" else torch.tensor(got)
            assert got.dtype == as_numpy(expected).dtype
            torch.testing.assert_close(back, expected, rtol=0, atol=0, equal_nan=True)


def as_numpy(values: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """bfloat16 as uint16."""
    return values.view(torch.int16).numpy().view(np.uint16) if values.dtype == torch.bfloat16 else values.numpy()


@given(heads=st.integers(1, 4), half=st.integers(1, 4), columns=st.integers(0, 3))
@settings(deadline=None)
def test_neighbours_in_llama_cpp_are_half_a_head_apart_in_hugging_face(heads: int, half: int, columns: int) -> None:
    shape = read_shape(config_of(num_attention_heads=heads, num_key_value_heads=heads, head_dim=2 * half))
    rows = np.arange(heads * 2 * half).reshape(-1, *([1] * (columns > 0))) * np.ones((1, columns or 1), int).squeeze(0)
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.bias"):
        order = llama_order(rows, name, shape).reshape(heads, half, 2, -1)[..., 0]
        expected = rows.reshape(heads, 2, half, -1)[..., 0]
        assert (order[:, :, 0] == expected[:, 0]).all() and (order[:, :, 1] == expected[:, 1]).all()
    assert llama_order(rows, "model.layers.0.self_attn.v_proj.weight", shape) is rows
    assert (
        llama_order(rows, "model.layers.0.self_attn.q_proj.weight", dataclasses.replace(shape, architecture="qwen3"))
        is rows
    )


def test_tensors_of_all_files_are_read_where_they_lie(tmp_path: Path) -> None:
    written = {
        "a.weight": torch.randn(3, 5),
        "b.weight": torch.randn(4, 2).to(torch.bfloat16),
        "c.bias": torch.randn(7).half(),
    }
    save_file(
        {name: written[name] for name in ("a.weight", "b.weight")}, tmp_path / "model-00001.safetensors", {"k": "v"}
    )
    positions = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}  # of older files; seen to be written
    save_file({"c.bias": written["c.bias"]} | positions, tmp_path / "model-00002.safetensors")
    found = stored_tensors(tmp_path)
    assert {tensor.name for tensor in found} == set(written)
    for tensor in found:
        np.testing.assert_array_equal(tensor.read(), as_numpy(written[tensor.name]))


def test_a_folder_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no safetensors file; fetch the model again"):
        stored_tensors(tmp_path)
    save_file({"q.weight": torch.ones(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(Unsupported, match=r"q\.weight is stored as I8; only F32, F16, BF16"):
        stored_tensors(tmp_path)


# ---------------------------------------------------------------- the prepared file


def prepared(tmp_path: Path, reason: str = "", window: int = 0, file: bool = True) -> Plan:
    plan = Plan(
        prompt_lengths=(4,), new_tokens=4, max_context=8, dtype="float16", device="cpu", engine_dir=str(tmp_path / "e")
    )
    (tmp_path / "e").mkdir()
    if file:
        (tmp_path / "e" / GGUF_FILE).write_bytes(b"")
    options: dict[str, Setting] = {"attention_window": window}
    manifest = EngineManifest(
        status="unavailable" if reason else "measured", reason=reason, architecture="LlamaForCausalLM", dtype="float16",
        versions={}, gpu=None, options=options, environment={},
    )  # fmt: skip
    write_json(manifest_path(tmp_path / "e"), manifest)
    return plan


def test_the_file_of_the_plan_is_found(tmp_path: Path) -> None:
    assert find_gguf(prepared(tmp_path, window=8)) == tmp_path / "e" / GGUF_FILE


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ({"reason": "no GGUF file is written for X"}, Unsupported, "no GGUF file is written for X"),
        ({"window": 7}, Unsupported, "a window of 7 positions and the plan needs 8"),
        ({"file": False}, RuntimeError, r"model\.gguf is missing; remove .* and make it again"),
    ],
)
def test_a_file_that_does_not_serve_is_refused(
    tmp_path: Path, what: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        find_gguf(prepared(tmp_path, **what))


def test_a_file_of_another_dtype_and_none_at_all_are_refused(tmp_path: Path) -> None:
    plan = prepared(tmp_path)
    with pytest.raises(RuntimeError, match="holds float16, the plan asks for bfloat16; make it again"):
        find_gguf(msgspec.structs.replace(plan, dtype="bfloat16"))
    manifest_path(tmp_path / "e").unlink()
    with pytest.raises(RuntimeError, match=r"e\.json is missing; make it with the rule prepare_engine"):
        find_gguf(plan)


# ---------------------------------------------------------------- the library


def test_a_library_built_here_is_taken_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeError, match=r"llama\.cpp is not installed here: make env-llama_cpp"):
        library.library_path()
    for package, file in reversed(library.LIBRARIES.items()):
        path = tmp_path / package / file
        path.parent.mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
        path.write_bytes(b"no library")
        assert library.library_path() == path
    with pytest.raises(
        RuntimeError, match=r"llama.cpp cannot be loaded: .*libllama\.so.*; install the library"
    ) as error:
        library.open_library(library.library_path())
    assert "\n" not in str(error.value)


def test_what_it_computes_does_not_depend_on_the_users_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GGML_CUDA_CUBLAS_COMPUTE_TYPE", "LLAMA_GRAPH_REUSE_DISABLE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        library.open_library(tmp_path / "none.so")
    assert not [name for name in os.environ if name.startswith(("GGML_", "LLAMA_"))]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_structs_of_another_release_are_noticed() -> None:
    """A field more or less moves those behind it: every default that is looked at stands for those before it."""
    model = library.ModelParams(n_gpu_layers=-1, split_mode=1, use_extra_bufts=True)
    context = library.ContextParams(
        n_ctx=512, n_batch=2048, n_ubatch=512, n_seq_max=1, n_threads=4, n_threads_batch=4, flash_attn_type=-1,
        yarn_ext_factor=-1, defrag_thold=-1, type_k=1, type_v=1, offload_kqv=True, no_perf=True, op_offload=True,
        swa_full=True,
    )  # fmt: skip
    assert library.has_known_layout(model, context)
    for offset in (0, 24, 56, 104, 112, 128):
        moved = library.ContextParams.from_buffer_copy(bytes(context)[:offset] + bytes(8) + bytes(context)[offset:-8])
        assert not library.has_known_layout(model, moved), offset
    for offset in (0, 16, 24, 64):
        shifted = library.ModelParams.from_buffer_copy(bytes(model)[:offset] + bytes(8) + bytes(model)[offset:-8])
        assert not library.has_known_layout(shifted, context), offset
