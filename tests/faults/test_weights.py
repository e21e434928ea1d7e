"""Damaged models: each is refused in one line before anything is measured, or is plainly another model.

A seeded set of damages of a small model, whole and in shards, before it is fetched and after it was hashed:
FAULTS_DAMAGES of each.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from firsttoken.hf.load import load_stock_model
from firsttoken.inputs.checks import model_problem
from firsttoken.inputs.fetch import fetch_model
from firsttoken.inputs.model_check import check_model, require_checked
from firsttoken.inputs.model_files import INDEX, SINGLE
from firsttoken.inputs.prompts import make_prompts
from unit.inputs.conftest import CORPUS, synthetic

DAMAGES = int(os.environ.get("FAULTS_DAMAGES", "40"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

Damage = Callable[[Path, Random], str]  # damages the model in a folder and says what it did


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same small model with one file of weights, and with three."""
    from safetensors.torch import load_file, save_file

    whole, shards = (tmp_path_factory.mktemp("models") / name for name in ("whole", "shards"))
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    fetch_model(synthetic(shape=shape), whole, CORPUS)
    shutil.copytree(whole, shards)
    tensors = load_file(shards / SINGLE)
    (shards / SINGLE).unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-{index % 3 + 1:05}-of-00003.safetensors" for index, name in enumerate(names)}
    for file in sorted(set(weight_map.values())):
        part = {name: tensors[name] for name in names if weight_map[name] == file}
        save_file(part, shards / file, metadata={"format": "pt"})
    (shards / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return [whole, shards]


def any_weights(folder: Path, random: Random) -> Path:
    return random.choice(sorted(folder.glob("*.safetensors")))


def flip(path: Path, at: int, random: Random) -> str:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << random.randrange(8)
    path.write_bytes(content)
    return f"{path.name}: a bit of byte {at} flipped"


def header_bytes(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def flip_header(folder: Path, random: Random) -> str:
    path = any_weights(folder, random)
    return flip(path, random.randrange(header_bytes(path)), random)


def flip_small_file(folder: Path, random: Random) -> str:
    path = random.choice(sorted(folder.glob("*.json")))
    return flip(path, random.randrange(path.stat().st_size), random)


def rename_tensor(folder: Path, random: Random) -> str:
    path = any_weights(folder, random)
    end = header_bytes(path)
    content = path.read_bytes()
    name = random.choice(sorted(set(json.loads(content[8:end])) - {"__metadata__"}))
    at = random.randrange(len(name))
    other = name[:at] + chr(ord(name[at]) ^ 1) + name[at + 1 :]
    header = content[:end].replace(f'"{name}"'.encode(), f'"{other}"'.encode())
    path.write_bytes(header + content[end:])
    return f"{path.name}: {name} renamed {other}"


def truncate(folder: Path, random: Random) -> str:
    path = random.choice(sorted(path for path in folder.iterdir()))
    size = random.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"{path.name}: cut to {size} bytes"


def append(folder: Path, random: Random) -> str:
    path = any_weights(folder, random)
    with path.open("ab") as stream:
        stream.write(random.randbytes(random.randrange(1, 64)))
    return f"{path.name}: longer"


def remove(folder: Path, random: Random) -> str:
    path = any_weights(folder, random)
    path.unlink()
    return f"{path.name}: gone"


def point_elsewhere(folder: Path, random: Random) -> str:
    """An index that names a file which is not the model's, is hidden or lies elsewhere."""
    outside = folder.parent / "outside.safetensors"
    shutil.copy(any_weights(folder, random), outside)
    shutil.copy(outside, folder / ".hidden.safetensors")
    name = random.choice(
        ["../outside.safetensors", str(outside), "config.json", ".hidden.safetensors", "a\nb.safetensors"]
    )
    index = json.loads((folder / INDEX).read_text()) if (folder / INDEX).exists() else {"weight_map": {"a": SINGLE}}
    index["weight_map"][random.choice(sorted(index["weight_map"]))] = name
    (folder / INDEX).write_text(json.dumps(index))
    return f"the index names {name!r}"


def link_out(folder: Path, random: Random) -> str:
    path = random.choice(sorted(folder.iterdir()))
    path.replace(folder.parent / "secret")
    path.symlink_to(random.choice([folder.parent / "secret", Path("../secret")]))
    return f"{path.name}: a link out of the folder"


REFUSED: list[Damage] = [rename_tensor, truncate, append, remove, point_elsewhere, link_out]
PERHAPS_ANOTHER_MODEL: list[Damage] = [flip_header, flip_small_file]


def same_model(original: Path, folder: Path) -> bool:
    """Whether every JSON file says the same and every tensor has the same bits: a damage of what nobody reads."""
    from safetensors.torch import load_file

    for path in original.glob("*.json"):
        if json.loads(path.read_text()) != json.loads((folder / path.name).read_text()):
            return False
    tensors = [
        {k: v for path in sorted(place.glob("*.safetensors")) for k, v in load_file(path).items()}
        for place in (original, folder)
    ]
    return tensors[0].keys() == tensors[1].keys() and all(
        bool((tensors[1][name] == value).all()) for name, value in tensors[0].items()
    )


def refusal(folder: Path, out: Path) -> str:
    """What stops a study of this model before it measures; empty where nothing does."""
    section = {"name": "damaged", "source": "local", "dtype": "float32", "path": str(folder)}
    if problem := model_problem(section):
        return problem
    try:
        manifest = fetch_model(section, out / "model", CORPUS)
        check_model(out / "model", manifest, out / "model_check.json")
        make_prompts(out / "model", CORPUS, [4], 1, 1)
        require_checked(out / "model", out / "model_check.json")
        load_stock_model(out / "model", "float32", "cpu")
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("number", range(DAMAGES))
def test_a_damage_before_the_fetch(number: int, models: list[Path], tmp_path: Path) -> None:
    random = Random(number)
    original, folder = random.choice(models), tmp_path / "model"
    shutil.copytree(original, folder)
    kinds = REFUSED + PERHAPS_ANOTHER_MODEL
    damage = kinds[number % len(kinds)]
    done = damage(folder, random)
    words = refusal(folder, tmp_path / "out")
    assert "\n" not in words and len(words) - words.count(str(tmp_path)) * len(str(tmp_path)) <= 300, f"{done}: {words}"
    if not words and damage in REFUSED:
        assert same_model(original, tmp_path / "out" / "model"), f"{done}: measured"
    if not words and damage is flip_header:
        assert same_model(original, tmp_path / "out" / "model"), f"{done}: other tensors are measured"


def write_and_set_back(folder: Path, random: Random) -> str:
    path = random.choice(sorted(folder.iterdir()))
    before = path.stat()
    done = flip(path, random.randrange(before.st_size), random)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return done + ", its time set back"


@pytest.mark.parametrize("number", range(DAMAGES))
def test_a_damage_after_the_model_was_hashed(number: int, models: list[Path], tmp_path: Path) -> None:
    random = Random(number)
    section = {"name": "sound", "source": "local", "dtype": "float32", "path": str(random.choice(models))}
    folder, check = tmp_path / "out" / "model", tmp_path / "model_check.json"
    manifest = fetch_model(section, folder, CORPUS)
    for path in folder.glob("*.safetensors"):  # not the shared one, by its hard link
        shutil.copy2(path, tmp_path / "copy")
        (tmp_path / "copy").replace(path)
    check_model(folder, manifest, check)
    require_checked(folder, check)
    damages: list[Damage] = [write_and_set_back, truncate, append, remove, flip_header, rename_tensor]
    done = damages[number % len(damages)](folder, random)
    with pytest.raises(ValueError, match="since the model was hashed on") as caught:
        require_checked(folder, check)
    assert "\n" not in str(caught.value), done
