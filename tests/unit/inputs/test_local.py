"""A model from a folder: taken whole, left as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from firsttoken.inputs import fetch
from firsttoken.inputs.fetch import fetch_model
from unit.inputs.fake_hub import read_folder


def section(folder: Path) -> dict[str, str]:
    return {"name": "mine", "source": "local", "path": str(folder), "dtype": "bfloat16"}


def test_weights_are_linked_and_still_called_random(llama_folder: Path, tmp_path: Path, corpus: Path) -> None:
    manifest = fetch_model(section(llama_folder), tmp_path / "model", corpus)
    assert read_folder(tmp_path / "model") == read_folder(llama_folder)
    assert (tmp_path / "model" / "model.safetensors").samefile(llama_folder / "model.safetensors")
    assert not (tmp_path / "model" / "config.json").samefile(llama_folder / "config.json")
    assert (manifest.weights, manifest.origin, manifest.revision) == ("random", str(llama_folder), "")


def test_weights_are_copied_where_links_are_not_possible(
    llama_folder: Path, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    fetch_model(section(llama_folder), tmp_path / "model", corpus)
    assert read_folder(tmp_path / "model") == read_folder(llama_folder)
    assert not (tmp_path / "model" / "model.safetensors").samefile(llama_folder / "model.safetensors")


def test_a_hub_cache_of_symbolic_links_becomes_real_files(llama_folder: Path, tmp_path: Path, corpus: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in llama_folder.iterdir():
        (snapshot / path.name).symlink_to(path)
    fetch_model(section(snapshot), tmp_path / "model", corpus)
    assert not any(path.is_symlink() for path in (tmp_path / "model").iterdir())
    assert read_folder(tmp_path / "model") == read_folder(llama_folder)


def test_what_an_earlier_call_left_is_replaced(llama_folder: Path, tmp_path: Path, corpus: Path) -> None:
    for name in ("model", ".firsttoken-model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "leftover.safetensors").write_bytes(b"half")
    fetch_model(section(llama_folder), tmp_path / "model", corpus)
    assert read_folder(tmp_path / "model") == read_folder(llama_folder)
    assert not (tmp_path / ".firsttoken-model").exists()


def test_a_copy_that_fails_leaves_nothing(
    llama_folder: Path, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch, "_link_or_copy", full)
    with pytest.raises(OSError, match="No space left"):
        fetch_model(section(llama_folder), tmp_path / "model", corpus)
    assert list(tmp_path.glob("*model*")) == []


def test_a_model_that_is_not_marked_is_trained(llama_folder: Path, tmp_path: Path, corpus: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    for name, content in read_folder(llama_folder).items():
        (original / name).write_bytes(content)
    config = json.loads((original / "config.json").read_text())
    del config["random_weights_seed"]
    (original / "config.json").write_text(json.dumps(config))
    assert fetch_model(section(original), tmp_path / "model", corpus).weights == "trained"
