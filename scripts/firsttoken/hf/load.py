"""Loading a causal language model from a local folder, the same way for every approach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from firsttoken.plan import Unsupported

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = ("float32", "float16", "bfloat16")


def load_model(
    model_dir: Path | str, dtype: str, device: str, attention: str = "sdpa", threads: int | None = None
) -> PreTrainedModel:
    """The model in `model_dir` in evaluation mode, weights in `dtype` on `device`.

    Safetensors only, local files only, no code from the model's folder. Sets the process's TF32 state (off) and, when
    given, its torch threads: Snakemake exports OMP_NUM_THREADS=1, so the count is never left to the environment. A
    model that caps its attention scores gets the eager attention, since sdpa cannot compute it; `attention_name` tells.
    Raises ValueError for a folder, a dtype or weights that cannot be used, Unsupported for a model without such
    attention.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    folder = Path(model_dir)
    if not (folder / "config.json").is_file():
        raise ValueError(f"model_dir: no config.json in {folder}; fetch the model first")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    # cuDNN's attention is left out for every approach: on an H200 with torch 2.11 its results differed between
    # identical runs, so that greedy tokens did, too; the other implementations gave the same bits each time.
    torch.backends.cuda.enable_cudnn_sdp(False)
    logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        attention = "eager"
    try:
        result: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are told, and refused below by their names
        )
    except RuntimeError as error:
        if "conversion of the weights" not in str(error):
            raise
        raise ValueError(
            f"{folder}: the stored tensors cannot be made into the model's; remove the folder and fetch the model again"
        ) from error
    except ValueError as error:
        if "attention implementation" not in str(error):
            raise
        name = ", ".join(config.architectures or [config.model_type])
        raise Unsupported(f"{name}: transformers has no {attention} attention for this model") from error
    model, info = result
    _require_exact(folder, info)
    loaded: PreTrainedModel = model.to(device).eval().requires_grad_(False)
    return loaded


def _require_exact(folder: Path, info: Mapping[str, Iterable[Any]]) -> None:
    """Raise ValueError where transformers left out a stored tensor or made one up: it only warns. The fetch checks the
    same; this is for what happens to the folder afterwards."""
    problems = [f"{kind.removesuffix('_keys')} {key}" for kind, keys in info.items() for key in sorted(map(str, keys))]
    if problems:
        raise ValueError(
            f"{folder}: {len(problems)} tensors are not what the architecture expects ({', '.join(problems[:3])}); "
            "remove the folder and fetch the model again"
        )


def attention_name(model: PreTrainedModel) -> str:
    """The attention implementation in use, as transformers names it, e.g. `sdpa`, and what was left out of it."""
    name = str(model.config.get_text_config()._attn_implementation).removeprefix("firsttoken_")
    return f"{name} without cuDNN" if name == "sdpa" and model.device.type == "cuda" else name


def tf32_state() -> Literal["on", "off"]:
    """`on` or `off`: whether float32 matrix products may run in TF32."""
    import torch

    return "off" if torch.get_float32_matmul_precision() == "highest" else "on"
