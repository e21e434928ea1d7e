"""The float32 reference: greedy tokens and logits of eager Hugging Face code, which every approach is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from firsttoken.files import atomic_path
from firsttoken.hf.rope import VARYING, rope_parameters
from firsttoken.plan import Prompts
from firsttoken.progress import Progress

if TYPE_CHECKING:
    import torch

LARGEST_CACHE_ERROR = 1e-2
CANDIDATES = 64  # of each choice; a token that is none of them is no near tie


def make_reference(
    model_dir: Path,
    prompts: Prompts,
    new_tokens: int,
    max_context: int,
    logit_prompts_per_length: int,
    device: str,
    threads: int,
    out: Path,
) -> None:
    """Decode every prompt eagerly in float32 and write `out` (safetensors).

    Keys, for every prompt: `tokens/{length}/{index}` int64 `[new_tokens]`; `top_tokens/...` int64 and `top_logits/...`
    float32 `[new_tokens, 64]`, the best candidates in falling order, which tell how undecided each choice was;
    `spread/...` float64 `[new_tokens]`, the standard deviation of the logits. For the first `logit_prompts_per_length`
    prompts of each length also `logits/...` float32 `[new_tokens, vocab]`. Metadata as strings. Raises ValueError for
    prompts longer than the model's `max_context`, and where a forward pass without a KV cache gives other logits.
    """
    import torch
    from safetensors.torch import save

    from firsttoken.hf.eager_decode import greedy_decode, uncached_logits
    from firsttoken.hf.load import load_model

    longest = max(prompt.length for prompt in prompts.prompts)
    if longest + new_tokens > max_context:
        raise ValueError(
            f"workload.prompt_lengths: found {longest}, which with new_tokens {new_tokens} is longer than the model's "
            f"context of {max_context} positions; shorten one of them"
        )
    torch.set_num_threads(threads)
    tensors: dict[str, torch.Tensor] = {}
    model = load_model(model_dir, "float32", device)
    progress = Progress("reference", len(prompts.prompts))
    for prompt in prompts.prompts:
        tokens, logits = greedy_decode(model, prompt.token_ids, new_tokens)
        if prompt.index == 0:
            _require_same(model, prompt.length, logits, uncached_logits(model, prompt.token_ids, tokens))
        key = f"{prompt.length}/{prompt.index}"
        best = logits.topk(min(CANDIDATES, logits.shape[1]))
        tensors[f"tokens/{key}"] = torch.tensor(tokens, dtype=torch.int64)
        tensors[f"top_tokens/{key}"], tensors[f"top_logits/{key}"] = best.indices, best.values
        tensors[f"spread/{key}"] = logits.double().std(-1, correction=0)
        if prompt.index < logit_prompts_per_length:
            tensors[f"logits/{key}"] = logits
        progress.update(f"prompts of {prompt.length} tokens")
    progress.close()
    metadata = {
        "architecture": type(model).__name__,
        "attention": str(model.config._attn_implementation),
        "device": device,
        "dtype": "float32",
        "layers": str(model.config.get_text_config().num_hidden_layers),
        "new_tokens": str(new_tokens),
        "logit_prompts_per_length": str(logit_prompts_per_length),
        "corpus_sha256": prompts.corpus_sha256,
        "torch": torch.__version__,
    }
    with atomic_path(out) as temporary:
        temporary.write_bytes(save(tensors, metadata=metadata))


def _require_same(model: Any, prompt_length: int, cached: torch.Tensor, uncached: torch.Tensor) -> None:
    """Raise ValueError where decoding with a KV cache is another function than the model's forward pass."""
    error = float(((cached - uncached).norm(dim=-1) / uncached.norm(dim=-1)).nan_to_num(nan=float("inf")).max())
    if error > LARGEST_CACHE_ERROR:
        kinds = [rope["rope_type"] for rope in rope_parameters(model.config) if rope.get("rope_type") in VARYING]
        because = f" (rotary positions of type {kinds[0]})" if kinds else ""
        raise ValueError(
            f"{type(model).__name__}{because}: with a prompt of {prompt_length} tokens, decoding with a KV cache gives "
            f"logits that are off by {error:.2g} of their size from one forward pass over the text; take other "
            "prompt_lengths, or another model"
        )
