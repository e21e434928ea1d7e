"""Models that no study can use: one line before any job, that names the file or key and says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firsttoken.inputs.checks import examine_model, model_problem
from unit.inputs.conftest import CORPUS
from unit.inputs.weights import with_config
from unit.toy_families import save_toy, toy_config

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"


def refusal(folder: Path) -> str:
    """What is said before any job; "" where nothing is."""
    section = {"name": "x", "source": "local", "dtype": "float32", "path": str(folder)}
    if problem := model_problem(section):
        return problem
    try:
        examine_model(section, CORPUS)
    except ValueError as error:
        return str(error)
    return ""


def file(name: str, text: str) -> Callable[[Path], Path]:
    def change(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder

    return change


def config(**fields: Any) -> Callable[[Path], Path]:
    return lambda folder: with_config(folder, **fields)


def family(model_type: str, **fields: Any) -> Callable[[Path], Path]:
    """The model is another one, with the same tokenizer."""

    def change(folder: Path) -> Path:
        tokenizer = (folder / "tokenizer.json").read_text()
        save_toy(toy_config(model_type, **{"vocab_size": 2048, **fields}), folder)
        return file("tokenizer.json", tokenizer)(folder)

    return change


def gguf_folder(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "model.gguf")
    return folder


def gguf_file(folder: Path) -> Path:
    return gguf_folder(folder) / "model.gguf"


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "adapter": (file("adapter_config.json", "{}"), "an adapter (adapter_config.json), not a whole model; merge it"),
    "gguf folder": (gguf_folder, "only GGUF weights, which transformers does not run; name the model"),
    "gguf file": (gguf_file, "model.gguf is a GGUF file; name the folder"),
    "pointer to weights": (
        file("model.safetensors", POINTER),
        "a pointer of Git LFS, not the file; run `git lfs pull`",
    ),
    "pointer to a tokenizer": (file("tokenizer.json", POINTER), "tokenizer.json: a pointer of Git LFS, not the file"),
    "encoder-decoder": (
        config(model_type="t5", is_encoder_decoder=True),
        "an encoder-decoder model (t5), which reads",
    ),
    "encoder": (family("bert"), "a bert model whose tokens attend to later ones, too"),
    "state space": (family("mamba"), "a mamba model has no attention, so no KV cache"),
    "remote code": (config(model_type="own", auto_map={"AutoConfig": "own.Config"}), "needs code of its own, which is"),
    "unknown type": (config(model_type="nonesuch"), "makes no decoder-only model of type 'nonesuch'"),
    "nonsense in a config": (config(num_attention_heads="many"), "makes no decoder-only model of type 'llama'"),
    "other weights": (config(num_hidden_layers=3), "the weights are not those of LlamaForCausalLM"),
    "tokenizer of another form": (file("tokenizer.json", "{}"), "tokenizer.json: no tokenizer that can be read"),
    "tokenizer of another model": (family("llama", vocab_size=2000), "the model has 2000 tokens; they do not belong"),
    "no context": (family("bloom"), "no max_position_embeddings; add its context length"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_before_any_job(case: str, llama_folder: Path, tmp_path: Path) -> None:
    """Seen failing: an adapter, BERT, T5 and a wrong tokenizer passed, an unknown type was told by a job only."""
    change, words = CASES[case]
    shutil.copytree(llama_folder, tmp_path / "model")
    found = refusal(change(tmp_path / "model"))
    assert found.startswith("model.path: ") and words in found
    assert "\n" not in found and len(found) - len(str(tmp_path)) <= 280


def test_whole_models_pass(llama_folder: Path, tmp_path: Path) -> None:
    """Files that a study does not take change nothing."""
    shutil.copytree(llama_folder, tmp_path / "model")
    (tmp_path / "model" / "consolidated.safetensors").write_bytes(b"other")
    assert refusal(tmp_path / "model") == ""
    section = {"name": "x", "source": "local", "dtype": "float32", "path": str(tmp_path / "model")}
    assert (
        examine_model(section, CORPUS)
        == 1024
        == json.loads((llama_folder / "config.json").read_text())["max_position_embeddings"]
    )
