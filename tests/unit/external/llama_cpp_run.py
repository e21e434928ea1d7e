"""Runs the approach `llama_cpp` in the interpreter of its environment: JSON jobs from a file, JSON lines to stdout.

A job is a model, a plan, a prompt and a continuation; its logits go to `logits`. `mutation` plants a fault in the
GGUF file first, to see whether the comparison notices.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from firsttoken.approaches.llama_cpp import LlamaCpp
from firsttoken.external.llama_cpp import gguf_file
from firsttoken.external.llama_cpp.engine import manifest_path, prepare_engine
from firsttoken.plan import Plan


class Tokens:
    """A `TokenSink` that keeps them."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def push(self, token: int) -> None:
        self.values.append(token)

    def push_chunk(self, tokens: Any) -> None:
        self.values.extend(tokens)


def run(job: dict[str, Any]) -> dict[str, Any]:
    plan = msgspec.convert(job["plan"], Plan)
    folder = Path(plan.engine_dir)
    original = gguf_file.read_shape, gguf_file.llama_order
    try:
        plant(job.get("mutation", ""))
        manifest = prepare_engine(Path(job["model"]), plan, folder, manifest_path(folder))
    finally:
        gguf_file.read_shape, gguf_file.llama_order = original
    result: dict[str, Any] = {"manifest": msgspec.to_builtins(manifest)}
    if manifest.status == "unavailable":
        return result
    with LlamaCpp() as approach:
        result["setup"] = msgspec.to_builtins(approach.load(Path(job["model"]), plan))
        result["tokens"] = []
        for _ in range(job.get("requests", 1)):
            sink = Tokens()
            approach.generate(job["prompt"], plan.new_tokens, sink)
            result["tokens"].append(sink.values)
        assert approach.save_logits(job["prompt"], job["continuation"], Path(job["logits"]))
        result["counters"] = approach.counters()
        result["settings"] = approach.facts().settings
    return result


def plant(mutation: str) -> None:
    """Make the converter wrong in one way."""
    read_shape = gguf_file.read_shape
    if mutation == "rows not reordered":
        gguf_file.llama_order = lambda values, name, shape: values
    elif mutation:
        field, _, value = mutation.partition("=")

        def changed(config: dict[str, Any]) -> Any:
            shape = read_shape(config)
            if field == "theta":
                return dataclasses.replace(shape, rope=dataclasses.replace(shape.rope, theta=float(value)))
            return dataclasses.replace(shape, **{field: type(getattr(shape, field))(value)})

        gguf_file.read_shape = changed


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(json.dumps(run(job)), flush=True)
