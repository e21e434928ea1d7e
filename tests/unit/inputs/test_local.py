"""A model from a folder: taken whole, left as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from firsttoken.inputs import fetch
from firsttoken.inputs.checks import model_problem
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
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "0123", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(llama_folder, blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    fetch_model(section(snapshot), tmp_path / "model", corpus)
    assert not any(path.is_symlink() for path in (tmp_path / "model").iterdir())
    assert read_folder(tmp_path / "model") == read_folder(llama_folder)


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json", "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused_by_name(
    name: str, llama_folder: Path, tmp_path: Path, corpus: Path
) -> None:
    """Seen failing: the file that the link named was copied into the study's model."""
    folder = tmp_path / "snapshots" / "theirs"  # named like the hub's cache, which allows its blobs alone
    shutil.copytree(llama_folder, folder)
    (folder / name).replace(tmp_path / "secret")
    (folder / name).symlink_to("../../secret")
    words = f"model.path: {folder}: {name} is a link to {tmp_path}/secret, outside of the model"
    with pytest.raises(ValueError, match=re.escape(words)):
        fetch_model(section(folder), tmp_path / "model", corpus)
    assert str(model_problem(section(folder))).startswith(words)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o600, 0o600), (0o400, 0o400), (0o644, 0o644), (0o666, 0o644), (0o660, 0o640)]
)
def test_no_copy_is_wider_than_the_original_or_written_by_others(
    mode: int, expected: int, llama_folder: Path, tmp_path: Path, corpus: Path
) -> None:
    """Seen failing: copies had what the umask allows; weights that everybody may write were shared by a hard link."""
    original = tmp_path / "original"
    shutil.copytree(llama_folder, original)
    for path in original.iterdir():
        path.chmod(mode)
    umask = os.umask(0)
    try:
        fetch_model(section(original), tmp_path / "model", corpus)
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {expected}
    assert {path.stat().st_mode & 0o777 for path in original.iterdir()} == {mode}


def test_nothing_else_in_the_folder_is_taken(llama_folder: Path, tmp_path: Path, corpus: Path) -> None:
    original = tmp_path / "original"
    shutil.copytree(llama_folder, original)
    for name in ("pytorch_model.bin", "modeling_evil.py", "evil.safetensors", "model.gguf", ".hidden.json"):
        (original / name).write_bytes(b"evil")
    (original / "onnx").mkdir()
    fetch_model(section(original), tmp_path / "model", corpus)
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

    monkeypatch.setattr(fetch, "_take_model", full)
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
