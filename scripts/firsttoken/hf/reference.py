"""The float32 reference: greedy tokens and logits of eager Hugging Face code, which every approach is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firsttoken.files import atomic_path
from firsttoken.plan import Prompts
from firsttoken.progress import Progress

CANDIDATES = 64  # of each choice; a token that is none of them is no near tie


def make_reference(
    model_dir: Path,
    prompts: Prompts,
    new_tokens: int,
    logit_prompts_per_length: int,
    device: str,
    threads: int,
    out: Path,
) -> None:
    """Decode every prompt eagerly in float32 and write `out` (safetensors).

    Keys, for every prompt: `tokens/{length}/{index}` int64 `[new_tokens]`; `top_tokens/...` int64 and `top_logits/...`
    float32 `[new_tokens, 64]`, the best candidates in falling order, which tell how undecided each choice was;
    `spread/...` float64 `[new_tokens]`, the standard deviation of the logits. For the first `logit_prompts_per_length`
    prompts of each length also `logits/...` float32 `[new_tokens, vocab]`. Metadata as strings.
    """
    import torch
    from safetensors.torch import save_file

    from firsttoken.hf.eager_decode import greedy_decode
    from firsttoken.hf.load import load_model

    torch.set_num_threads(threads)
    tensors: dict[str, torch.Tensor] = {}
    with _exact_float32():
        model = load_model(model_dir, "float32", device)
        progress = Progress("reference", len(prompts.prompts))
        for prompt in prompts.prompts:
            tokens, logits = greedy_decode(model, prompt.token_ids, new_tokens)
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
        save_file(tensors, temporary, metadata=metadata)


@contextmanager
def _exact_float32() -> Iterator[None]:
    """TF32 off: a reference that rounds its products to ten bits would be no reference."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
