"""llama.cpp's C API (`llama.h`) through ctypes: where the shared library is, its structs, its functions.

The structs are those of llama.cpp 0.4 and 0.5 (builds 10809 to 11063 in xllamacpp, llama-cpp-python 0.3.36). A library
with another layout is refused when it is opened. Importing this file loads nothing.
"""

from __future__ import annotations

import ctypes as c
import functools
import importlib.util
import os
from pathlib import Path

# Python package -> the shared library in it that exports llama.h. The first is built on the machine itself, with CUDA
# where that was asked for; the second is a wheel.
LIBRARIES = {"llama_cpp": "lib/libllama.so", "xllamacpp": "xllamacpp.abi3.so"}
HOW_TO_INSTALL = "make env-llama_cpp"
HOW_TO_BUILD = "build it with CUDA as docs/llama-cpp.md says"

LOG_INFO, LOG_WARN, LOG_ERROR = 2, 3, 4
DEVICE_TYPE_GPU = 1
SPLIT_MODE_NONE = 0
FLASH_ATTENTION_OFF = 0  # -1, the default: llama.cpp decides
GGML_TYPES = {"float32": 0, "float16": 1, "bfloat16": 30}

LogCallback = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)


class ModelParams(c.Structure):
    """`llama_model_params`."""

    _fields_ = (
        ("devices", c.POINTER(c.c_void_p)),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int),
        ("load_mode", c.c_int),
        ("lazy_mode", c.c_int),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    )


class ContextParams(c.Structure):
    """`llama_context_params`."""

    _fields_ = (
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32),
        ("n_outputs_max", c.c_uint32),
        ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        ("ctx_type", c.c_int),
        ("rope_scaling_type", c.c_int),
        ("pooling_type", c.c_int),
        ("attention_type", c.c_int),
        ("flash_attn_type", c.c_int),
        ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float),
        ("yarn_ext_factor", c.c_float),
        ("yarn_attn_factor", c.c_float),
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int),
        ("type_v", c.c_int),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        ("embeddings", c.c_bool),
        ("offload_kqv", c.c_bool),
        ("no_perf", c.c_bool),
        ("op_offload", c.c_bool),
        ("swa_full", c.c_bool),
        ("kv_unified", c.c_bool),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
    )


class Batch(c.Structure):
    """`llama_batch`. Without positions, sequences and flags: the next tokens of sequence 0, and logits of the last."""

    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", c.POINTER(c.c_int32)),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    )


class SamplerChainParams(c.Structure):
    """`llama_sampler_chain_params`."""

    _fields_ = (("no_perf", c.c_bool),)


_POINTER = c.c_void_p
PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {  # function -> (result, arguments)
    "llama_log_set": (None, (LogCallback, _POINTER)),
    "llama_version": (c.c_char_p, ()),
    "llama_print_system_info": (c.c_char_p, ()),
    "llama_supports_gpu_offload": (c.c_bool, ()),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_sampler_chain_default_params": (SamplerChainParams, ()),
    "llama_model_load_from_file": (_POINTER, (c.c_char_p, ModelParams)),
    "llama_model_free": (None, (_POINTER,)),
    "llama_model_desc": (c.c_int32, (_POINTER, c.c_char_p, c.c_size_t)),
    "llama_model_get_vocab": (_POINTER, (_POINTER,)),
    "llama_vocab_n_tokens": (c.c_int32, (_POINTER,)),
    "llama_init_from_model": (_POINTER, (_POINTER, ContextParams)),
    "llama_free": (None, (_POINTER,)),
    "llama_get_memory": (_POINTER, (_POINTER,)),
    "llama_memory_clear": (None, (_POINTER, c.c_bool)),
    "llama_n_ctx": (c.c_uint32, (_POINTER,)),
    "llama_n_batch": (c.c_uint32, (_POINTER,)),
    "llama_n_ubatch": (c.c_uint32, (_POINTER,)),
    "llama_n_threads": (c.c_int32, (_POINTER,)),
    "llama_n_threads_batch": (c.c_int32, (_POINTER,)),
    "llama_decode": (c.c_int32, (_POINTER, Batch)),
    "llama_get_logits_ith": (c.POINTER(c.c_float), (_POINTER, c.c_int32)),
    "llama_sampler_chain_init": (_POINTER, (SamplerChainParams,)),
    "llama_sampler_chain_add": (None, (_POINTER, _POINTER)),
    "llama_sampler_free": (None, (_POINTER,)),
    "llama_sampler_reset": (None, (_POINTER,)),
    "llama_sampler_accept": (None, (_POINTER, c.c_int32)),
    "llama_sampler_sample": (c.c_int32, (_POINTER, _POINTER, c.c_int32)),
    "llama_sampler_init_dist": (_POINTER, (c.c_uint32,)),
    "llama_sampler_init_penalties": (_POINTER, (c.c_int32, c.c_int32, c.c_float, c.c_float, c.c_float)),
    "llama_sampler_init_temp": (_POINTER, (c.c_float,)),
    "llama_sampler_init_top_k": (_POINTER, (c.c_int32,)),
    "llama_sampler_init_top_p": (_POINTER, (c.c_float, c.c_size_t)),
    "ggml_version": (c.c_char_p, ()),
    "ggml_backend_dev_count": (c.c_size_t, ()),
    "ggml_backend_dev_get": (_POINTER, (c.c_size_t,)),
    "ggml_backend_dev_type": (c.c_int, (_POINTER,)),
    "ggml_backend_dev_description": (c.c_char_p, (_POINTER,)),
}


def library_path() -> Path:
    """The shared library of the first package in `LIBRARIES` that is installed. Raises RuntimeError with one line
    where there is none."""
    for package, file in LIBRARIES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(folder) / file).is_file():
                return Path(folder) / file
    raise RuntimeError(f"llama.cpp is not installed here: {HOW_TO_INSTALL}")


@functools.cache
def open_library(path: Path) -> c.CDLL:
    """Load the library and declare its functions. Raises RuntimeError with one line where that cannot be: a library
    that it needs is missing, or it is another release of llama.cpp.

    Variables that llama.cpp reads from the environment are removed first: they change how it computes.
    """
    for name in [name for name in os.environ if name.startswith(("GGML_", "LLAMA_"))]:
        del os.environ[name]
    try:
        library = c.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(f"llama.cpp cannot be loaded: {error}; install the library that it names") from error
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise RuntimeError(f"{path} has no function {name}; {HOW_TO_INSTALL} installs one that has") from error
        function.restype, function.argtypes = result, arguments
    if not has_known_layout(library.llama_model_default_params(), library.llama_context_default_params()):
        version = library.llama_version().decode()
        raise RuntimeError(
            f"{path} is llama.cpp {version}, with other structs; {HOW_TO_INSTALL} installs one that fits"
        )
    return library


def has_known_layout(model: ModelParams, context: ContextParams) -> bool:
    """Whether the defaults stand where our structs have them; a field more or less moves those behind it."""
    return (
        (model.n_gpu_layers, model.split_mode, model.main_gpu) == (-1, 1, 0)
        and (model.vocab_only, model.check_tensors, model.use_extra_bufts, model.no_host) == (False, False, True, False)
        and (context.n_ctx, context.n_batch, context.n_ubatch, context.n_seq_max) == (512, 2048, 512, 1)
        and (context.n_threads, context.n_threads_batch, context.flash_attn_type) == (4, 4, -1)
        and (context.yarn_ext_factor, context.defrag_thold) == (-1.0, -1.0)
        and (context.type_k, context.type_v) == (GGML_TYPES["float16"], GGML_TYPES["float16"])
        and (context.embeddings, context.offload_kqv, context.no_perf, context.op_offload) == (False, True, True, True)
        and (context.swa_full, context.kv_unified, context.samplers, context.ctx_other) == (True, False, None, None)
    )


def gpu_devices(library: c.CDLL) -> list[tuple[str, int]]:
    """Description and handle of each GPU that the library's backends see."""
    handles = [library.ggml_backend_dev_get(index) for index in range(library.ggml_backend_dev_count())]
    return [
        (library.ggml_backend_dev_description(handle).decode(), handle)
        for handle in handles
        if library.ggml_backend_dev_type(handle) == DEVICE_TYPE_GPU
    ]
