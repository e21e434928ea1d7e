"""llama.cpp in the interpreter of its environment, with tiny models; and the float32 reference of what it computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.numpy import load_file

from firsttoken.hf.eager_decode import teacher_forced_logits
from firsttoken.plan import Plan
from unit import tiny_models
from unit.tiny_models import HEADS, build_tiny_model, prompt_ids, save_tiny_model

SCRIPTS = Path(__file__).parents[2] / "scripts"
RUN = Path(__file__).parents[1] / "unit" / "external" / "llama_cpp_run.py"
PYTHON = Path(sys.prefix).with_name(f"{Path(sys.prefix).name}-llama_cpp") / "bin" / "python"

PROMPT, CONTINUATION = prompt_ids(20), [(5 * position + 3) % 96 for position in range(6)]
CONTEXT = len(PROMPT) + 8

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", HEADS),
    "mistral": ("mistral", {**HEADS, "sliding_window": None}),
    "mistral_wide": ("mistral", {**HEADS, "sliding_window": CONTEXT}),
    "llama_tied": ("llama", {**HEADS, "tie_word_embeddings": True, "rms_norm_eps": 1e-2}),
    "llama_theta": ("llama", {**HEADS, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    "llama_llama3": ("llama", {**HEADS, "rope_parameters": LLAMA3}),
    "llama_linear": ("llama", {**HEADS, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
}
FAMILIES = ("llama_mha", "llama_gqa", "qwen3", "decoder_llama", "decoder_qwen3", *VARIANTS)


@dataclass
class Job:
    """A model and how llama.cpp ran it."""

    folder: Path
    logits_path: Path
    result: dict[str, Any]

    @property
    def log_probs(self) -> torch.Tensor:
        """float32 `[continuation, vocab]`."""
        return torch.from_numpy(load_file(self.logits_path)["logits"]).log_softmax(-1)


class Session:
    """Runs jobs in llama.cpp's environment, all that are added in one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def run(self, models: list[Path], **changes: Any) -> list[Job]:
        """One job for each model folder; `prompts` and `continuation` beside the plan's fields may be changed."""
        jobs, found = [], []
        prompts, continuation = changes.pop("prompts", [PROMPT]), changes.pop("continuation", CONTINUATION)
        for model in models:
            self._count += 1
            place = self.folder / f"job-{self._count}"
            plan = make_plan(engine_dir=str(place / "engine" / "llama_cpp"), **changes)
            logits = place / "logits.safetensors"
            jobs.append(
                {"model": str(model), "plan": msgspec.to_builtins(plan), "prompts": prompts,
                 "continuation": continuation, "logits": str(logits)}
            )  # fmt: skip
            found.append(Job(model, logits, {}))
        path = self.folder / "jobs.json"
        path.write_text(json.dumps(jobs))
        done = subprocess.run(
            [PYTHON, RUN, path], env=os.environ | {"PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        for job, line in zip(found, done.stdout.splitlines(), strict=True):
            job.result = json.loads(line)
        return found


def make_plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "prompt_lengths": (5, len(PROMPT)),
        "new_tokens": 8,
        "max_context": CONTEXT,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
    }
    return Plan(**{**fields, **changes})


@pytest.fixture(scope="module", name="models")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The folder of a family's model, saved once; the variants are families, too."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        for name, variant in VARIANTS.items():
            patch.setitem(tiny_models.FAMILIES, name, variant)

        def saved(family: str) -> Path:
            place = folder / family
            return place if place.exists() else save_tiny_model(family, place)

        yield saved


def reference(family: str, dtype: str = "float32") -> torch.Tensor:
    """Teacher-forced log-probabilities of eager transformers, float32 `[continuation, vocab]`."""
    model = build_tiny_model(family).to(getattr(torch, dtype))
    model.set_attn_implementation("eager")
    return teacher_forced_logits(model, PROMPT, CONTINUATION).log_softmax(-1)


def rms(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).pow(2).mean().sqrt())
