"""The checks before any job: each problem in one line, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firsttoken.inputs.checks import examine_model, local_inputs, model_problem, stated_context
from firsttoken.inputs.model_files import INDEX, weight_files
from unit.inputs.conftest import synthetic

HUB = {
    "name": "x",
    "source": "huggingface",
    "dtype": "float16",
    "repo": "meta-llama/Llama-2-7b-hf",
    "revision": "a" * 40,
}
CONFIG = json.dumps({"max_position_embeddings": 77})


def local(folder: Path, **files: str) -> dict[str, Any]:
    """A local section whose folder holds `files`; `__` stands for the dot in a name."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return {"name": "x", "source": "local", "dtype": "float32", "path": str(folder)}


def test_good_models_have_no_problem(llama_folder: Path) -> None:
    assert model_problem(synthetic()) is None
    assert model_problem(HUB) is None
    assert model_problem({"name": "x", "source": "local", "dtype": "float32", "path": str(llama_folder)}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": ""}, "model.revision: found ''"),
        ({"revision": "main"}, "model.revision: found 'main'"),
        ({"revision": "A" * 40}, "model.revision: found 'AAAA"),
        ({"repo": ""}, "model.repo: found ''"),
        ({"repo": "https://huggingface.co/a/b"}, "model.repo: found 'https"),
    ],
)
def test_a_hub_model_without_a_pin(change: dict[str, str], message: str) -> None:
    problem = model_problem(HUB | change)
    assert problem is not None
    assert problem.startswith(message)
    assert "\n" not in problem


def test_local_folders_that_are_no_model(tmp_path: Path) -> None:
    cases = {
        "is no folder": {"name": "x", "source": "local", "dtype": "float32", "path": str(tmp_path / "none")},
        "missing; name the model's folder": {"name": "x", "source": "local", "dtype": "float32", "path": ""},
        "no config.json": local(tmp_path / "a", README__md="x"),
        "no tokenizer": local(tmp_path / "b", config__json=CONFIG, model__safetensors=""),
        "no weights": local(tmp_path / "c", config__json=CONFIG, tokenizer__json="{}"),
        "only pickled weights": local(
            tmp_path / "d", config__json=CONFIG, tokenizer__json="{}", pytorch_model__bin="x"
        ),
    }
    for message, section in cases.items():
        problem = model_problem(section)
        assert problem is not None, message
        assert message in problem
        assert "model.path" in problem
        assert "\n" not in problem


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    section = local(tmp_path / "m", config__json=CONFIG, tokenizer__json="{}")
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    (tmp_path / "m" / INDEX).write_text(index, encoding="utf-8")
    (tmp_path / "m" / "model-1.safetensors").touch()
    problem = model_problem(section)
    assert problem is not None
    assert "model-2.safetensors, which is missing" in problem


def test_an_index_decides_which_weights_are_taken() -> None:
    names = {INDEX, "model-1.safetensors", "model.safetensors", "consolidated.safetensors"}
    assert weight_files(names, '{"weight_map": {"a": "model-1.safetensors"}}') == [INDEX, "model-1.safetensors"]
    assert weight_files(names - {INDEX}, None) == ["model.safetensors"]


def test_contexts_known_before_any_job(tmp_path: Path) -> None:
    assert examine_model(synthetic(), tmp_path) == 1024
    assert examine_model(synthetic(architecture="gpt2", shape={"n_positions": 99}), tmp_path) == 99
    assert stated_context({"max_position_embeddings": 77}, "config.json") == 77
    assert stated_context({"n_positions": 12}, "config.json") == 12
    assert stated_context({"text_config": {"max_position_embeddings": 5}}, "config.json") == 5
    assert stated_context({}, "config.json") is None


def test_the_files_of_a_local_model_are_inputs_and_others_have_none(llama_folder: Path) -> None:
    section = {"name": "x", "source": "local", "dtype": "float32", "path": str(llama_folder)}
    assert sorted(local_inputs(section)) == sorted(str(path) for path in llama_folder.iterdir())
    assert local_inputs(synthetic()) == local_inputs(HUB) == []


def test_the_checks_import_neither_torch_nor_transformers() -> None:
    program = (
        "import sys; from firsttoken.inputs.checks import examine_model, model_problem\n"
        f"section = {synthetic()!r}\n"
        "assert model_problem(section) is None and examine_model(section, None) == 1024\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    scripts = str(Path(__file__).parents[3] / "scripts")
    answer = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": scripts}, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
