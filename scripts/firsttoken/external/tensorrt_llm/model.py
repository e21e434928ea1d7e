"""Which models and plans TensorRT-LLM can serve, and how it gets to read a model as it was meant."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firsttoken.external.tensorrt_llm.settings import VERSION
from firsttoken.plan import Plan
from firsttoken.private_folder import PrivateFolder


def read_config(model_dir: Path) -> dict[str, Any]:
    """The model's config.json."""
    config: dict[str, Any] = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return config


def model_problem(config: dict[str, Any], known_architectures: Collection[str], plan: Plan) -> str:
    """Why a backend with these architectures cannot serve this Hugging Face config, as one sentence; "" when it can.

    A window shorter than the context is refused: an engine would attend to every position and give other tokens.
    """
    architecture = architecture_of(config)
    if architecture not in known_architectures:
        return f"this backend of TensorRT-LLM {VERSION} has no {architecture}"
    window = config.get("sliding_window")
    if window and config.get("use_sliding_window", True) and window < plan.max_context:
        return (
            f"the model attends to a window of {window} positions and the plan needs {plan.max_context}; "
            "TensorRT-LLM is run without a window"
        )
    rope = config.get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in rope.values()):
        return "the model's rotary positions differ by layer type, which transformers 4.57 cannot read"
    return ""


def pytorch_problem(plan: Plan) -> str:
    """Why the PyTorch backend cannot serve this plan, as one sentence; "" when it can."""
    if plan.dtype == "float32":
        return f"the PyTorch backend of TensorRT-LLM {VERSION} has kernels for float16 and bfloat16 only"
    if plan.sampling.method != "greedy":
        return f"the PyTorch backend of TensorRT-LLM {VERSION} ignores a request's repetition penalty and seed"
    return ""


def architecture_of(config: dict[str, Any]) -> str:
    """The model's class name, from config.json."""
    return str((config.get("architectures") or ["(none named in config.json)"])[0])


def transformers_4_config(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json that transformers 4.57 reads as transformers 5 meant it.

    transformers 5 writes `rope_parameters` and `dtype`; version 4 reads `rope_theta`, `rope_scaling` and `torch_dtype`,
    and would silently take its default rotary base for a model that has another one.
    """
    result = dict(config)

    def fill(key: str, value: Any) -> None:
        if value is not None and result.get(key) is None:
            result[key] = value

    fill("torch_dtype", config.get("dtype"))
    rope = dict(config.get("rope_parameters") or {})
    fill("rope_theta", rope.pop("rope_theta", None))
    fill("partial_rotary_factor", rope.pop("partial_rotary_factor", None))
    if rope.get("rope_type", "default") != "default":
        fill("rope_scaling", {**rope, "type": rope["rope_type"]})
    return result


@contextmanager
def readable_model(model_dir: Path, dtype: str) -> Iterator[Path]:
    """A folder of links to the model's files with such a config.json; it vanishes afterwards.

    The config names `dtype` whatever the weights are stored in: the PyTorch backend reads it there, and converts the
    weights to it, and does not read the argument `dtype` of `LLM`.
    """
    config = transformers_4_config(read_config(model_dir)) | {"torch_dtype": dtype, "dtype": dtype}
    with PrivateFolder("trtllm") as name:
        folder = Path(name)
        for source in model_dir.iterdir():
            if source.name != "config.json":
                (folder / source.name).symlink_to(source.resolve())
        (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        yield folder
