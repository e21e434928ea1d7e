"""The user's own prompts: as they are or cut, each mistake named by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from firsttoken.inputs import own_prompts
from firsttoken.inputs.own_prompts import prompt_lengths
from firsttoken.inputs.prompts import encode_own, open_tokenizer, take_prompts
from firsttoken.preflight import check_study
from firsttoken.study.schema import ConfigError
from firsttoken.yaml_files import read_yaml

TEXT = "It is a truth universally acknowledged."
CONFIG = Path(__file__).parents[3] / "config"


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "own.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_prompts_as_they_are_and_cut(llama_folder: Path, tmp_path: Path) -> None:
    """A text begins with what the tokenizer puts before it; token ids are taken as they are."""
    file = write(
        tmp_path, {"text": TEXT}, {"token_ids": [5, 6, 7]}, {"token_ids": [8, 9, 10, 11]}, {"token_ids": [3] * 3}
    )
    text_ids = (1, *open_tokenizer(llama_folder).encode(TEXT))
    found = {(p.length, p.index): p.token_ids for p in take_prompts(llama_folder, file, [], seed=1).prompts}
    assert found == {
        (3, 0): (5, 6, 7), (3, 1): (3, 3, 3), (4, 0): (8, 9, 10, 11), (len(text_ids), 0): text_ids
    }  # fmt: skip
    assert prompt_lengths(file, encode_own(llama_folder, file)) == [3, 4, len(text_ids)]
    cut = take_prompts(llama_folder, file, [2, 3], seed=1).prompts
    assert [(p.length, p.index, p.token_ids) for p in cut][:2] == [(2, 0, text_ids[:2]), (2, 1, (5, 6))]
    assert len(cut) == 8


@pytest.mark.parametrize(
    ("line", "lengths", "words"),
    [
        ('{"text": ', [], "line 2: found "),
        ("", [], "line 2: found "),
        ({"prompt": "a"}, [], "line 2: found Object contains unknown field `prompt`"),
        ({"text": " "}, [], "line 2: found both, or neither, of a text and token ids"),
        ({"text": "a", "token_ids": [1]}, [], "line 2: found both, or neither"),
        ({"token_ids": [1, -1]}, [], "line 2: found Expected `int` >= 0"),
        ({"token_ids": [2048]}, [], "line 2: found token id 2048, and the model knows 2048"),
        ({"token_ids": [1, 2]}, [2, 3], "line 2: found 2 tokens, and workload.prompt_lengths has 3"),
    ],
)
def test_a_mistake_is_named_by_its_line(
    llama_folder: Path, tmp_path: Path, line: Any, lengths: list[int], words: str
) -> None:
    file = write(tmp_path, {"token_ids": [1, 2, 3]}, line)
    with pytest.raises(ValueError, match=words.replace("`", ".")) as raised:
        take_prompts(llama_folder, file, lengths, seed=1)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


def test_no_file_no_lines_and_too_many_lengths(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file or directory; name a file of JSON Lines"):
        take_prompts(llama_folder, tmp_path / "none", [], seed=1)
    with pytest.raises(ValueError, match="/dev/zero: no plain file"):
        take_prompts(llama_folder, Path("/dev/zero"), [], seed=1)
    with pytest.raises(ValueError, match="has 0 lines; give 1 to 10,000"):
        take_prompts(llama_folder, write(tmp_path), [], seed=1)
    file = write(tmp_path, *({"token_ids": [1] * length} for length in range(1, own_prompts.MOST_LENGTHS + 2)))
    with pytest.raises(ValueError, match=r"prompts of 101 different lengths; at most 100 are measured: cut them"):
        take_prompts(llama_folder, file, [], seed=1)


def study(folder: Path, prompts: Path | str, lengths: list[int]) -> list[int]:
    """The lengths of a study of a synthetic model that has not been made."""
    config = read_yaml(CONFIG / "config.yaml")
    config["workload"] |= {"prompts": str(prompts), "prompt_lengths": lengths}
    found: list[int] = check_study(config, CONFIG, folder).config["workload"]["prompt_lengths"]
    return found


def test_what_the_config_checks_before_any_job(tmp_path: Path) -> None:
    ids = write(tmp_path, {"token_ids": [5, 6, 7]}, {"token_ids": [5]})
    assert study(tmp_path, ids, []) == [1, 3]
    assert study(tmp_path, ids, [1]) == [1]
    with pytest.raises(ConfigError, match=r"workload.prompt_lengths: found \[\]; must name at least one"):
        study(tmp_path, "", [])
    with pytest.raises(ConfigError, match="with new_tokens 4 is longer than the model's context of 1024"):
        study(tmp_path, write(tmp_path, {"token_ids": [1] * 1021}), [])
    with pytest.raises(ConfigError, match="cannot be counted before the model is fetched; give lengths"):
        study(tmp_path, write(tmp_path, {"text": TEXT}), [])
