"""Engines over tiny models for tests, and plain references to hold them to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firsttoken.engine.base import DynamicOperations, EngineSpec, Forward
from firsttoken.plan import GraphOptions, Plan, Sampling

# Short buckets, so that a tiny context crosses several; the model's window (8 where it has one) is shorter than any
# prompt here.
GRAPHS = GraphOptions(kv_buckets=(16, 24))
MAX_CONTEXT = 48


def make_spec(
    model_dir: Path, forward: Forward = "graph", operations: DynamicOperations = "native", ahead: int = 1, **plan: Any
) -> EngineSpec:
    """A spec with a small plan; `plan` overrides its fields."""
    fields: dict[str, Any] = {
        "prompt_lengths": (5, 13),
        "new_tokens": 20,
        "max_context": MAX_CONTEXT,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "graphs": GRAPHS,
        **plan,
    }
    return EngineSpec(
        model_dir=str(model_dir), plan=Plan(**fields), forward=forward, dynamic_operations=operations, ahead=ahead
    )


def make_tape_engine(spec: EngineSpec, backend: Any = None) -> Any:
    """An engine over Hugging Face's steps whose graphs are recorded tapes."""
    from fakes.tape_graph import TapeBackend
    from firsttoken.engine.loop import LoopEngine
    from firsttoken.hf.steps import load_hf_steps

    return LoopEngine(spec, backend or TapeBackend(), load_hf_steps)


def run_request(engine: Any, prompt_ids: Sequence[int], new_tokens: int, stop_after: int | None = None) -> list[int]:
    """The tokens of one request; with `stop_after`, cancelled once so many have come."""
    tokens: list[int] = []
    engine.generate(prompt_ids, new_tokens, tokens.append, lambda: stop_after is not None and len(tokens) >= stop_after)
    return tokens


def saved_logits(engine: Any, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> Any:
    """Teacher-forced logits through the engine, float32 `[len(continuation_ids), vocab]`."""
    from safetensors.torch import load_file

    assert engine.save_logits(prompt_ids, continuation_ids, path)
    return load_file(path)["logits"]


def whole_sequence_logits(model: Any, prompt_ids: Sequence[int], continuation_ids: Sequence[int]) -> Any:
    """The same logits from one plain forward over the whole text, without any cache."""
    import torch

    text = [*prompt_ids, *continuation_ids]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([text], device=model.device), use_cache=False).logits[0].float().cpu()
    return logits[len(prompt_ids) - 1 : len(text) - 1]


SAMPLED = Sampling(method="sample", temperature=0.8, top_k=20, top_p=0.9)
