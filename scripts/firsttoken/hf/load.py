"""Loading a causal language model from a local folder: as a user gets it, and as our own loops need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = ("float32", "float16", "bfloat16")


def load_stock_model(model_dir: Path | str, dtype: str, device: str) -> PreTrainedModel:
    """The model in `model_dir` as a user of transformers gets it, weights in `dtype` on `device`.

    The attention is the one that transformers chooses, and torch's switches stay as they are. Safetensors only, local
    files only, no code from the model's folder. Raises ValueError for a folder, a dtype or weights that cannot be used.
    """
    return _load(Path(model_dir), dtype, device)


def load_model(
    model_dir: Path | str, dtype: str, device: str, attention: str = "sdpa", threads: int | None = None
) -> PreTrainedModel:
    """The same for our own loops: with that attention, frozen, and with the process's switches set.

    Sets the process's TF32 state (off) and, when given, its torch threads: Snakemake exports OMP_NUM_THREADS=1, so the
    count is never left to the environment. A model that transformers has no such attention for gets the eager one, and
    so does one that caps its attention scores, since not every release caps them under sdpa; `attention_name` tells.
    """
    import torch
    from transformers import AutoConfig

    folder = Path(model_dir)
    _check(folder, dtype)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    # cuDNN's attention is left out for our loops and the reference: on an H200 with torch 2.11 its results differed
    # between identical runs, so that greedy tokens did, too; the other implementations gave the same bits each time.
    torch.backends.cuda.enable_cudnn_sdp(False)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        attention = "eager"
    try:
        return _load(folder, dtype, device, attn_implementation=attention).requires_grad_(False)
    except ValueError as error:
        if "attention implementation" not in str(error):
            raise
    return _load(folder, dtype, device, attn_implementation="eager").requires_grad_(False)


def _check(folder: Path, dtype: str) -> None:
    """Raise ValueError for a folder without a model, or a dtype that we do not know."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"model_dir: no config.json in {folder}; fetch the model first")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")


def _load(folder: Path, dtype: str, device: str, **options: str) -> PreTrainedModel:
    """`from_pretrained` with those options; what it only warns about is refused."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    _check(folder, dtype)
    logging.disable_progress_bar()
    try:
        result: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are told, and refused below by their names
            **options,
        )
    except RuntimeError as error:
        if "conversion of the weights" not in str(error):
            raise
        raise ValueError(
            f"{folder}: the stored tensors cannot be made into the model's; remove the folder and fetch the model again"
        ) from error
    model, info = result
    _require_exact(folder, info)
    loaded: PreTrainedModel = model.to(device)
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
    import torch

    name = str(model.config.get_text_config()._attn_implementation).removeprefix("firsttoken_")
    left_out = name == "sdpa" and model.device.type == "cuda" and not torch.backends.cuda.cudnn_sdp_enabled()
    return f"{name} without cuDNN" if left_out else name


def tf32_state() -> Literal["on", "off"]:
    """`on` or `off`: whether float32 matrix products may run in TF32."""
    import torch

    return "off" if torch.get_float32_matmul_precision() == "highest" else "on"
