"""How vLLM is asked to run: every knob that decides whether the comparison is fair, in one place.

Written for version 0.24.0; docs/vllm.md has vLLM's default beside each value. Importing this file imports nothing of
vLLM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firsttoken.plan import DTYPE_BYTES, Plan, Sampling, Unsupported
from firsttoken.results import Setting

VERSION = "0.24.0"
WORKER = "firsttoken.external.vllm.worker.TimedWorker"

# vLLM captures up to 512 tokens where it may batch 256 sequences or more (config/vllm.py, `_set_cudagraph_sizes`).
# Its rule is twice `max_num_seqs`: with one sequence it would capture 1 and 2 tokens, and prefill would run uncaptured.
LARGEST_CAPTURE = 512
LARGEST_BLOCK = 128  # positions; KV blocks have 16 to 128, by attention backend
TEMPERATURES = (0.01, 2.0)  # sampling_params.py: lower ones are raised to 0.01, higher ones refused


def process_environment(plan: Plan, cache_root: str, separate_core: bool, flashinfer: bool) -> dict[str, str]:
    """Variables to set before `vllm` is imported; the engine core process inherits them.

    `cache_root` "" leaves vLLM's own. `spawn` is what `vllm serve` sets, and no thread of ours is forked. Where
    FlashInfer is missing vLLM cannot start with its default sampler, which greedy decoding does not use.
    """
    variables = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if separate_core else "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
    }
    if cache_root:
        variables["VLLM_CACHE_ROOT"] = cache_root
    if not flashinfer:
        variables["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    if plan.dtype == "float32":
        variables["VLLM_FLOAT32_MATMUL_PRECISION"] = "highest"
        variables["TRITON_F32_DEFAULT"] = "ieee"  # Triton's own default for float32 products is TF32
    return variables


def engine_arguments(model_dir: Path, plan: Plan) -> dict[str, Any]:
    """Keywords of `EngineArgs`; what is not here is vLLM's default.

    Prefix caching would skip the prefill of a repeated prompt. `max_logprobs` only allows a request to ask for the
    whole vocabulary, as the equality check does.
    """
    return {
        "model": str(model_dir.absolute()),
        "skip_tokenizer_init": True,
        "dtype": plan.dtype,
        "seed": plan.seed,
        "max_model_len": plan.max_context,
        "max_num_seqs": 1,
        "max_cudagraph_capture_size": min(LARGEST_CAPTURE, plan.max_context),
        "enable_prefix_caching": False,
        "max_logprobs": -1,
        "use_tqdm_on_load": False,
        "worker_cls": WORKER,
    }


def kv_cache_bytes(layers: int, kv_heads: int, head_size: int, plan: Plan) -> int:
    """Size of the KV cache: what the plan needs in whole blocks, one block that vLLM keeps for itself, one to spare.

    A share of free memory, vLLM's default, would make the memory column show the share. Told in bytes, vLLM also skips
    its memory profile and takes no part of the device for itself.
    """
    positions = (math.ceil(plan.max_context / LARGEST_BLOCK) + 2) * LARGEST_BLOCK
    return 2 * layers * kv_heads * head_size * DTYPE_BYTES[plan.dtype] * positions


def check_sampling(sampling: Sampling) -> None:
    """Raise `Unsupported` for sampling that vLLM would change without an error."""
    lowest, highest = TEMPERATURES
    if sampling.method == "sample" and not lowest <= sampling.temperature <= highest:
        raise Unsupported(
            f"vLLM samples at temperatures from {lowest} to {highest}; the study has {sampling.temperature}"
        )


def sampling_arguments(plan: Plan, max_new_tokens: int) -> dict[str, Any]:
    """Keywords of `SamplingParams`: exactly `max_new_tokens` tokens, no text, no end-of-sequence.

    vLLM applies repetition penalty (prompt and new tokens), temperature, top-k, top-p, in this order, as `Sampling`
    does. The seed is the engine's: a request with one of its own is kept from vLLM's faster sampler.
    """
    arguments: dict[str, Any] = {"max_tokens": max_new_tokens, "ignore_eos": True, "detokenize": False}
    sampling = plan.sampling
    if sampling.method == "greedy":
        return arguments | {"temperature": 0.0}
    return arguments | {
        "repetition_penalty": sampling.repetition_penalty,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }


def recorded(
    arguments: Mapping[str, Any], environment: Mapping[str, str], chosen: Mapping[str, Setting]
) -> dict[str, Setting]:
    """For the run record: what vLLM was told, which variables were set, and what it chose (`TimedWorker.settings`)."""
    return {
        **{f"told.{name}": value for name, value in arguments.items() if name != "model"},
        **{f"environment.{name}": value for name, value in environment.items() if name != "VLLM_CACHE_ROOT"},
        **chosen,
    }
