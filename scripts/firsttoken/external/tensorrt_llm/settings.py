"""How TensorRT-LLM is asked to build and to run: all settings that decide whether the comparison is fair.

Written for version 1.2.1; docs/tensorrt-llm.md lists where each name was read. Importing this file imports nothing of
TensorRT-LLM.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from enum import Enum
from importlib import metadata
from typing import Any

from firsttoken.plan import Plan, Record
from firsttoken.results import Setting

VERSION = "1.2.1"
CONTAINER = f"nvcr.io/nvidia/tensorrt-llm/release:{VERSION}"
HOW_TO_INSTALL = (
    f"run with --sdm apptainer (container {CONTAINER}) or --sdm conda (envs/tensorrt_llm.yaml), or name a Python that "
    "has it in the config: environments: {tensorrt_llm: {python: PATH}}"
)

# What 1.2.1 itself pins (its requirements.txt), as prefixes of versions; envs/tensorrt_llm.yaml agrees (tested).
REQUIRED_VERSIONS: dict[str, tuple[str, ...]] = {
    "python": ("3.12",),
    "tensorrt_llm": (VERSION,),
    "torch": ("2.9", "2.10"),
    "transformers": ("4.57.3",),
    "numpy": ("1",),
}

# Its latency tool sets these (tensorrt_llm/bench/benchmark/low_latency.py, `latency_command`); so do we, also in the
# control.
LATENCY_TOOL_ENVIRONMENT = {
    "TRTLLM_ENABLE_MMHA_MULTI_BLOCK_DEBUG": "1",
    "TRTLLM_MMHA_KERNEL_BLOCK_SIZE": "256",
    "FORCE_MULTI_BLOCK_MODE": "1",
    "TRTLLM_ENABLE_PDL": "1",
}
CUDA_GRAPH_CACHE_SIZE = 1000  # tensorrt_llm/bench/dataclasses/configuration.py, PerformanceOptions
TOKENS_PER_BLOCK = 32  # tensorrt_llm/plugin/plugin.py, PluginConfig.tokens_per_block


class EngineSizes(Record, frozen=True, kw_only=True):
    """The limits that an engine is built with and the KV cache that it runs with, in tokens."""

    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
    kv_cache_tokens: int


def engine_sizes(plan: Plan) -> EngineSizes:
    """What the plan needs and no more, so that the memory column shows the model and not a setting.

    Without chunked prefill a prompt goes through in one step, so `max_num_tokens` holds the longest one; the builder
    raises anything under one KV block to a block (`check_max_num_tokens` in tensorrt_llm/_common.py). The cache has one
    block to spare: one that cannot hold a whole sequence would make the runtime shorten `max_seq_len`.
    """
    longest = max(plan.prompt_lengths)
    max_seq_len = max(plan.max_context, longest + plan.new_tokens, TOKENS_PER_BLOCK)
    return EngineSizes(
        max_input_len=longest,
        max_seq_len=max_seq_len,
        max_num_tokens=max(longest, TOKENS_PER_BLOCK),
        kv_cache_tokens=(math.ceil(max_seq_len / TOKENS_PER_BLOCK) + 1) * TOKENS_PER_BLOCK,
    )


def process_environment(plan: Plan) -> dict[str, str]:
    """Variables to set before `tensorrt_llm` is imported: its worker process inherits them when MPI starts.

    float32 runs without TF32, as all other approaches do; the variable rules both TensorRT and cuBLAS. The worker's
    garbage collector is off, as it is in the processes of all others.
    """
    variables = dict(LATENCY_TOOL_ENVIRONMENT)
    variables["TLLM_WORKER_USE_SINGLE_PROCESS"] = "1" if plan.tensorrt_llm.single_process else "0"
    variables["TRTLLM_WORKER_DISABLE_GC"] = "1"
    if plan.dtype == "float32":
        variables["NVIDIA_TF32_OVERRIDE"] = "0"
    return variables


def build_arguments(plan: Plan) -> dict[str, Any]:
    """Keywords of `BuildConfig`; `opt_batch_size` is 8 if it is not said."""
    sizes = engine_sizes(plan)
    return {
        "max_batch_size": 1,
        "opt_batch_size": 1,
        "max_beam_width": 1,
        "max_input_len": sizes.max_input_len,
        "max_seq_len": sizes.max_seq_len,
        "max_num_tokens": sizes.max_num_tokens,
    }


def plugin_settings(plan: Plan) -> dict[str, Any]:
    """Attributes of `BuildConfig.plugin_config`, set one by one.

    Paged context attention serves block reuse and chunked prefill, which are off, and the fused kernels that it needs
    exist for half types only.
    """
    settings: dict[str, Any] = {"gemm_plugin": plan.tensorrt_llm.gemm_plugin, "tokens_per_block": TOKENS_PER_BLOCK}
    if plan.dtype == "float32":
        settings["use_paged_context_fmha"] = False
    return settings


def common_arguments(plan: Plan) -> dict[str, Any]:
    """Keywords of `LLM` that both backends take, in TensorRT-LLM's own types; unknown names raise ValueError there.

    Block reuse is off, or a repeated prompt would skip its prefill. The limits are said here too: `LLM` takes 8192 for
    `max_num_tokens` if it is not told, whatever the engine was built with, and hands a missing beam width on as None.
    """
    from tensorrt_llm import llmapi

    sizes = engine_sizes(plan)
    return {
        "max_batch_size": 1,
        "max_num_tokens": sizes.max_num_tokens,
        "max_seq_len": sizes.max_seq_len,
        "max_beam_width": 1,
        "enable_chunked_prefill": False,
        "kv_cache_config": llmapi.KvCacheConfig(
            max_tokens=sizes.kv_cache_tokens, enable_block_reuse=False, enable_partial_reuse=False
        ),
        "scheduler_config": llmapi.SchedulerConfig(
            capacity_scheduler_policy=llmapi.CapacitySchedulerPolicy.GUARANTEED_NO_EVICT
        ),
    }


def engine_arguments(plan: Plan, cuda_graphs: bool) -> dict[str, Any]:
    """Keywords of the engine backend's `LLM`: those of both, and the latency tool's runtime settings."""
    from tensorrt_llm import llmapi

    return common_arguments(plan) | {
        "extended_runtime_perf_knob_config": llmapi.ExtendedRuntimePerfKnobConfig(
            multi_block_mode=True,
            cuda_graph_mode=cuda_graphs,
            cuda_graph_cache_size=CUDA_GRAPH_CACHE_SIZE if cuda_graphs else 0,
        )
    }


def pytorch_arguments(plan: Plan) -> dict[str, Any]:
    """Keywords of the PyTorch backend's `LLM`: those of both, and CUDA graphs for the one batch size that there is.

    Without it, graphs for batches of 1 to 128 would be captured. All else is as shipped: overlap scheduler on, its own
    attention kernels, autotuner on, no torch.compile.
    """
    from tensorrt_llm import llmapi

    return common_arguments(plan) | {"cuda_graph_config": llmapi.CudaGraphConfig(batch_sizes=[1])}


def recorded_settings(config: Any, prefix: str = "") -> dict[str, Setting]:
    """What one of TensorRT-LLM's configs holds once `LLM` has filled it, by dotted name, for the run record.

    Unset (None) fields are left out, and so are objects, the model's folder, and what an engine was built with, which
    its manifest has.
    """
    found: dict[str, Setting] = {}
    for name in type(config).model_fields:
        value, key = getattr(config, name), f"{prefix}{name}"
        if key in ("model", "build_config"):
            continue
        if isinstance(value, Enum):
            found[key] = value.name
        elif isinstance(value, (bool, int, float, str)):
            found[key] = value
        elif isinstance(value, (list, tuple, dict)):
            found[key] = str(value)
        elif hasattr(type(value), "model_fields"):
            found |= recorded_settings(value, f"{key}.")
    return found


def sampling_arguments(plan: Plan, max_new_tokens: int) -> dict[str, Any]:
    """Keywords of `SamplingParams`: exactly `max_new_tokens` tokens, no text, no end-of-sequence.

    `end_id` must be said where no tokenizer is loaded; the latency tool, too, passes -1 to ignore end-of-sequence.
    """
    arguments: dict[str, Any] = {
        "max_tokens": max_new_tokens,
        "end_id": -1,
        "pad_id": -1,
        "ignore_eos": True,
        "detokenize": False,
        "return_perf_metrics": True,
    }
    sampling = plan.sampling
    if sampling.method == "greedy":
        return arguments | {"top_k": 1}
    return arguments | {
        "repetition_penalty": sampling.repetition_penalty,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "seed": plan.seed,
    }


def installed_versions() -> dict[str, str]:
    """Versions of Python and of what an engine depends on; absent packages are left out."""
    versions = {"python": platform.python_version()}
    for name in ("tensorrt_llm", "tensorrt", "torch", "transformers", "numpy", "nvidia-modelopt", "mpi4py"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def container_problem(host_python: str) -> str:
    """Why the container cannot be used from this Python, as one line; "" when it can.

    The image has no msgspec. Snakemake mounts the packages of the Python that runs it into the container, behind the
    container's own on the path; compiled ones load only where both are of the same minor version.
    """
    (wanted,) = REQUIRED_VERSIONS["python"]
    if host_python.startswith(f"{wanted}."):
        return ""
    return (
        f"TensorRT-LLM's container has Python {wanted} and takes msgspec from the Python that runs Snakemake, which is "
        f"{host_python}; make the environment again with Python {wanted}"
    )


def require_versions(versions: Mapping[str, str]) -> None:
    """Raise RuntimeError with one line where these are not the versions that TensorRT-LLM 1.2.1 runs with."""
    wrong = []
    for name, wanted in REQUIRED_VERSIONS.items():
        found = versions.get(name, "")
        if not any(found == prefix or found.startswith(f"{prefix}.") for prefix in wanted):
            wrong.append(f"{name} {found or 'is missing'} (needs {' or '.join(wanted)})")
    if wrong:
        raise RuntimeError(f"not the environment of TensorRT-LLM {VERSION}: {', '.join(wrong)}; {HOW_TO_INSTALL}")
