"""Prompts: exact lengths of real text, seeded, each length by itself."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from firsttoken.inputs.prompts import make_prompts
from firsttoken.plan import Prompt

LENGTHS = (1, 2, 10, 500)


def by_length(prompts: tuple[Prompt, ...], length: int) -> list[Prompt]:
    return [prompt for prompt in prompts if prompt.length == length]


def test_each_prompt_is_a_slice_of_the_text_of_exactly_its_length(llama_folder: Path, corpus: Path) -> None:
    tokenizer = Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    text = tokenizer.encode(corpus.read_text(encoding="utf-8"), add_special_tokens=False).ids
    made = make_prompts(llama_folder, corpus, LENGTHS, per_length=16, seed=1)
    for length in LENGTHS:
        prompts = by_length(made.prompts, length)
        assert [prompt.index for prompt in prompts] == list(range(16))
        offsets = sorted(prompt.offset for prompt in prompts)
        assert all(one < other for one, other in pairwise(offsets))
        assert offsets[-1] - offsets[0] > len(text) // 2, "the prompts do not come from all over the text"
        for prompt in prompts:
            assert len(prompt.token_ids) == length
            head = [1] if length > 1 else []  # <s>, as the tokenizer puts it before a text
            body = length - len(head)
            assert list(prompt.token_ids) == head + text[prompt.offset : prompt.offset + body]


def test_one_more_length_leaves_the_others_alone(llama_folder: Path, corpus: Path) -> None:
    few = make_prompts(llama_folder, corpus, [10, 50], per_length=4, seed=1)
    more = make_prompts(llama_folder, corpus, [50, 7, 10], per_length=4, seed=1)
    for length in (10, 50):
        assert by_length(few.prompts, length) == by_length(more.prompts, length)


def test_the_seed_decides(llama_folder: Path, corpus: Path) -> None:
    one, same, other = (make_prompts(llama_folder, corpus, [20], per_length=8, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.prompts != other.prompts


def test_a_length_beyond_the_text_is_named(llama_folder: Path, corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"workload\.prompt_lengths: 900000 is too long for .*corpus\.txt"):
        make_prompts(llama_folder, corpus, [10, 900_000], per_length=2, seed=1)


def test_fewer_starts_than_prompts_are_an_error_and_just_enough_are_not(llama_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    text = "It is a truth universally acknowledged, that a single man must be in want of a wife."
    (tmp_path / "short.txt").write_text(text, encoding="utf-8")
    tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
    longest = tokens - 3 + 1  # four starts for the body, and <s>
    made = make_prompts(llama_folder, tmp_path / "short.txt", [longest], per_length=4, seed=3)
    assert {prompt.offset for prompt in made.prompts} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="4 different prompts need at least"):
        make_prompts(llama_folder, tmp_path / "short.txt", [longest + 1], per_length=4, seed=3)


def test_a_tokenizer_of_another_model_is_refused(llama_folder: Path, corpus: Path, tmp_path: Path) -> None:
    shutil.copy(llama_folder / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 300}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"the tokenizer gives id \d+, the model has 300 tokens"):
        make_prompts(tmp_path, corpus, [10], per_length=2, seed=1)
    (tmp_path / "config.json").write_text('{"text_config": null}', encoding="utf-8")  # nothing to compare with
    make_prompts(tmp_path, corpus, [10], per_length=2, seed=1)


def test_a_tokenizer_without_tokenizer_json_goes_through_transformers(tmp_path: Path, corpus: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {character: index for index, character in enumerate(sorted(ByteLevel.alphabet()))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"<|endoftext|>": 256}), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}', encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 257}', encoding="utf-8")
    made = make_prompts(tmp_path, corpus, [12], per_length=3, seed=1)
    text = corpus.read_text(encoding="utf-8")
    for prompt in made.prompts:  # one token a byte, nothing before the text
        characters = text[prompt.offset : prompt.offset + 12].replace(" ", "Ġ").replace("\n", "Ċ")
        assert list(prompt.token_ids) == [vocabulary[character] for character in characters]
