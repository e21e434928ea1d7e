"""How llama.cpp is asked to run: every setting that decides whether the comparison is fair, in one place.

All else stays as the library has it, without variables of the shell: the file is memory-mapped, llama.cpp chooses its
kernels.
"""

from __future__ import annotations

from typing import Any

from firsttoken.external.llama_cpp.library import (
    FLASH_ATTENTION_OFF,
    GGML_TYPES,
    HOW_TO_BUILD,
    SPLIT_MODE_NONE,
    ContextParams,
    ModelParams,
    gpu_devices,
)
from firsttoken.plan import Plan


def gpu_handle(library: Any, device: str) -> tuple[str, int | None]:
    """Name and handle of the GPU to run on; ("", None) on a CPU. Raises RuntimeError where there is none."""
    if device == "cpu":
        return "", None
    gpus = gpu_devices(library)
    if not gpus:
        raise RuntimeError(f"llama.cpp sees no GPU here: look at nvidia-smi, or {HOW_TO_BUILD}")
    return gpus[0]


def model_params(library: Any, plan: Plan, devices: Any) -> ModelParams:
    """All layers on the one GPU, or none anywhere but on the CPU. `devices` must outlive the model's loading."""
    params: ModelParams = library.llama_model_default_params()
    params.devices = devices
    params.n_gpu_layers = -1 if plan.device == "cuda" else 0  # -1: all
    params.split_mode = SPLIT_MODE_NONE
    return params


def context_params(library: Any, plan: Plan) -> ContextParams:
    """What the plan needs and no more: the longest prompt in one step, one row of logits, a KV cache in the plan's
    dtype (llama.cpp's default is float16) for its context (llama.cpp rounds up to 256 positions).

    llama.cpp chooses whether to use flash attention, except in float32: there it would round keys and values to
    float16 first (`build_attn_mha` in its llama-graph.cpp), another function than float32 attention.
    """
    params: ContextParams = library.llama_context_default_params()
    params.n_ctx = plan.max_context
    params.n_batch = params.n_ubatch = max(plan.prompt_lengths)
    params.n_outputs_max = 1
    params.n_threads = params.n_threads_batch = plan.threads
    if plan.dtype == "float32":
        params.flash_attn_type = FLASH_ATTENTION_OFF
    params.type_k = params.type_v = GGML_TYPES[plan.dtype]
    return params


def sampler_chain(library: Any, plan: Plan, vocab: int) -> tuple[int, int | None]:
    """Handles of llama.cpp's own samplers in the order of `plan.Sampling`, and of the one for penalties, which has to
    hear of the prompt (None where it is off)."""
    sampling = plan.sampling
    chain = int(library.llama_sampler_chain_init(library.llama_sampler_chain_default_params()))
    penalties = None
    if sampling.repetition_penalty != 1.0:
        # over the whole context; no penalties by frequency or presence
        penalties = library.llama_sampler_init_penalties(vocab, plan.max_context, sampling.repetition_penalty, 0.0, 0.0)
        library.llama_sampler_chain_add(chain, penalties)
    if sampling.temperature != 1.0:
        library.llama_sampler_chain_add(chain, library.llama_sampler_init_temp(sampling.temperature))
    if sampling.top_k > 0:
        library.llama_sampler_chain_add(chain, library.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1.0:
        library.llama_sampler_chain_add(chain, library.llama_sampler_init_top_p(sampling.top_p, 1))
    library.llama_sampler_chain_add(chain, library.llama_sampler_init_dist(plan.seed))
    return chain, penalties
