"""Runs the approach `llama_cpp` in the interpreter of its environment: jobs from a JSON file, a JSON line for each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from firsttoken.approaches.llama_cpp import LlamaCpp
from firsttoken.external.llama_cpp.engine import manifest_path, prepare_engine
from firsttoken.plan import Plan, Unsupported


class Tokens:
    """A `TokenSink` that keeps them."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def push(self, token: int) -> None:
        self.values.append(token)

    def push_chunk(self, tokens: Any) -> None:
        self.values.extend(tokens)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Prepare, load, generate each of the job's prompts, save the logits of the first before its continuation."""
    plan = msgspec.convert(job["plan"], Plan)
    folder = Path(plan.engine_dir)
    manifest = prepare_engine(Path(job["model"]), plan, folder, manifest_path(folder))
    result: dict[str, Any] = {"manifest": msgspec.to_builtins(manifest), "tokens": []}
    approach = LlamaCpp()
    try:
        approach.load(Path(job["model"]), plan)
        for prompt in job["prompts"]:
            sink = Tokens()
            approach.generate(prompt, plan.new_tokens, sink)
            result["tokens"].append(sink.values)
        if job["continuation"]:
            assert approach.save_logits(job["prompts"][0], job["continuation"], Path(job["logits"]))
        result["counters"] = approach.counters()
        result["settings"] = approach.facts().settings
    except (Unsupported, RuntimeError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    finally:
        approach.close()
        approach.close()
    return result


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(json.dumps(run(job)), flush=True)
