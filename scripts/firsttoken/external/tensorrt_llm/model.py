"""Which models TensorRT-LLM can build an engine for, and how it gets to read them as they were meant."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firsttoken.external.tensorrt_llm.settings import VERSION
from firsttoken.plan import Plan


def model_problem(config: dict[str, Any], known_architectures: Collection[str], plan: Plan) -> str:
    """Why TensorRT-LLM cannot serve this Hugging Face config, as one sentence; "" when it can.

    A window shorter than the context is refused: the engine would attend to every position and give other tokens.
    """
    architecture = architecture_of(config)
    if architecture not in known_architectures:
        return f"TensorRT-LLM {VERSION} builds no TensorRT engine for {architecture}"
    window = config.get("sliding_window")
    if window and config.get("use_sliding_window", True) and window < plan.max_context:
        return (
            f"the model attends to a window of {window} positions and the plan needs {plan.max_context}; "
            "the engine is built without a window"
        )
    rope = config.get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in rope.values()):
        return "the model's rotary positions differ by layer type, which transformers 4.57 cannot read"
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
def readable_model(model_dir: Path) -> Iterator[Path]:
    """A folder of links to the model's files with such a config.json; it vanishes afterwards."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="firsttoken-trtllm-") as name:
        folder = Path(name)
        for source in model_dir.iterdir():
            if source.name != "config.json":
                (folder / source.name).symlink_to(source.resolve())
        (folder / "config.json").write_text(json.dumps(transformers_4_config(config), indent=1), encoding="utf-8")
        yield folder
