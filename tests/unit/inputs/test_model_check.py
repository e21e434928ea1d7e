"""The model's files against the manifest by hash, and against what was hashed by stat."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from firsttoken.inputs import file_entries as module
from firsttoken.inputs import model_check
from firsttoken.inputs.manifest import describe_model
from firsttoken.inputs.model_check import check_model, require_checked
from firsttoken.plan import ModelManifest
from unit.inputs.conftest import synthetic

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(llama_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(llama_folder, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def manifest(llama_folder: Path) -> ModelManifest:
    return describe_model(synthetic(), llama_folder)


def flip_byte(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def flip_and_hide(path: Path) -> None:
    """A byte flipped on the disk: no time tells."""
    before = path.stat()
    flip_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


HASHED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (lambda folder: flip_byte(folder / WEIGHTS), "model.safetensors: sha256 changed from"),
    "and the time put back": (lambda folder: flip_and_hide(folder / WEIGHTS), "model.safetensors: sha256 changed from"),
    "in the tokenizer": (lambda folder: flip_byte(folder / "tokenizer.json"), "tokenizer.json: sha256 changed from"),
    "cut": (lambda folder: os.truncate(folder / WEIGHTS, 9), "model.safetensors: bytes changed from 3576488 to 9"),
    "missing": (lambda folder: (folder / WEIGHTS).unlink(), "model.safetensors: gone"),
    "extra": (lambda folder: (folder / "z.safetensors").write_bytes(b""), "z.safetensors: added"),
}


@pytest.mark.parametrize("case", HASHED)
def test_files_that_were_not_fetched_so(case: str, model: Path, manifest: ModelManifest) -> None:
    """Seen failing: a flipped byte was measured, and all gates were green."""
    change, words = HASHED[case]
    change(model)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        check_model(model, manifest, model.with_name("model_check.json"))
    assert not model.with_name("model_check.json").exists()
    assert str(caught.value).endswith(f"; remove {model} and run again, which fetches it anew")
    assert "\n" not in str(caught.value)


def checked(model: Path, manifest: ModelManifest) -> Path:
    """The folder's model_check.json, with its model_stat.json."""
    check = model.with_name("model_check.json")
    check_model(model, manifest, check)
    return check


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


CHANGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "written": (lambda folder: flip_byte(folder / WEIGHTS), "model.safetensors: mtime_ns changed"),
    "touched": (lambda folder: os.utime(folder / WEIGHTS), "model.safetensors: mtime_ns changed"),
    "replaced": (lambda folder: replace_by_a_copy(folder / WEIGHTS), "model.safetensors: inode changed"),
    "cut": (lambda folder: os.truncate(folder / WEIGHTS, 9), "bytes changed from 3576488 to 9"),
    "missing": (lambda folder: (folder / WEIGHTS).unlink(), "model.safetensors: gone"),
    "extra": (lambda folder: (folder / "a.safetensors").write_bytes(b""), "a.safetensors: added"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_changed_since_it_was_hashed(case: str, model: Path, manifest: ModelManifest) -> None:
    check = checked(model, manifest)
    require_checked(model, check)
    change, words = CHANGED[case]
    change(model)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        require_checked(model, check)
    advice = f"`snakemake --forcerun check_model -- {check}`, with the study's --configfile, hashes again"
    assert f"since the model was hashed on {platform.node()}; {advice}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_write_whose_time_was_set_back_is_noticed(model: Path, manifest: ModelManifest) -> None:
    """Seen failing: size, mtime and inode were those that were hashed, and the byte was measured."""
    check = checked(model, manifest)
    flip_and_hide(model / WEIGHTS)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"model\.safetensors: sha256 changed from"):
            require_checked(model, check)


def test_a_hard_link_is_hashed_once_and_goes_on(
    model: Path, manifest: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = checked(model, manifest)
    os.link(model / WEIGHTS, model.with_name("another study's"))
    require_checked(model, check)
    monkeypatch.setattr(model_check, "sha256_file", None)  # not again
    require_checked(model, check)


def test_the_same_bytes_go_on_after_hashing_again_and_leave_the_same_evidence(
    model: Path, manifest: ModelManifest
) -> None:
    before = checked(model, manifest).read_bytes()
    replace_by_a_copy(model / WEIGHTS)
    (model / ".snakemake_timestamp").touch()
    os.link(model / WEIGHTS, model.with_name("another study's"))  # changes the inode's change time
    require_checked(model, checked(model, manifest))
    os.link(model / WEIGHTS, model.with_name("a third one's"))
    require_checked(model, model.with_name("model_check.json"))
    assert model.with_name("model_check.json").read_bytes() == before


def test_a_lost_stat_file_is_named(model: Path, manifest: ModelManifest) -> None:
    check = checked(model, manifest)
    (check.parent / ".cache" / "model_stat.json").unlink()
    with pytest.raises(ValueError, match=r"model_stat\.json: missing; `snakemake --forcerun check_model -- "):
        require_checked(model, check)


def test_a_local_models_original_is_named(model: Path, manifest: ModelManifest) -> None:
    import msgspec

    flip_byte(model / WEIGHTS)
    local = msgspec.structs.replace(manifest, source="local", origin="/models/mine")
    with pytest.raises(ValueError, match="mend /models/mine, which may be the same file by a hard link, then remove"):
        check_model(model, local, model.with_name("model_check.json"))


def test_large_files_tell_their_progress(model: Path, manifest: ModelManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE_BYTES", 1_000_000)
    lines: list[str] = []
    check_model(model, manifest, model.with_name("model_check.json"), lines.append)
    assert len(lines) == 1 and lines[0].startswith("hashed model.safetensors, 0.0 of 0.0 GiB")


def test_what_ships_names_neither_the_machine_nor_its_folders_nor_times(model: Path, manifest: ModelManifest) -> None:
    found = json.loads(checked(model, manifest).read_text())
    assert found == {"files": [{"path": e.path, "bytes": e.bytes, "sha256": e.sha256} for e in manifest.files]}


def test_a_measuring_process_imports_nothing_heavy_for_it() -> None:
    program = (
        "import sys; import firsttoken.inputs.model_check\n"
        "print(sorted({'concurrent.futures', 'numpy', 'torch', 'transformers', 'safetensors'} & set(sys.modules)))"
    )
    scripts = str(Path(__file__).parents[3] / "scripts")
    answer = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": scripts}, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
