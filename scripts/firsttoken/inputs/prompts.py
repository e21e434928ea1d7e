"""Prompts of exact lengths, cut from real text; needs the tokenizers library and, for most models, nothing else.

A prompt is a slice of the corpus as the model's tokenizer encodes it: never padded, never cut short. Where the
tokenizer puts a token before every text (Llama's `<s>`), each prompt starts with it and its length includes it, since
that is what a person's prompt of that length is to the model; a prompt that would be nothing else is one token of
text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from firsttoken.files import sha256_file
from firsttoken.inputs.model_files import TOKENIZER_FILES
from firsttoken.inputs.own_prompts import cut_prompts, encode_prompts
from firsttoken.inputs.weight_headers import LFS_POINTER, check_pointer
from firsttoken.plan import Prompt, Prompts


def make_prompts(model_dir: Path, corpus: Path, lengths: Sequence[int], per_length: int, seed: int) -> Prompts:
    """`per_length` different prompts of each length; those of one length do not depend on the other lengths.

    Raises ValueError if the corpus is too short for a length, or the tokenizer is damaged or gives ids that the model
    does not have.
    """
    prefix, text = encode_corpus(model_dir, corpus)
    prompts: list[Prompt] = []
    for length in lengths:
        head = prefix if length > len(prefix) else ()
        body = length - len(head)
        offsets = _offsets(len(text), body, per_length, seed, length, corpus)
        prompts += [
            Prompt(index=index, length=length, offset=offset, token_ids=(*head, *text[offset : offset + body]))
            for index, offset in enumerate(offsets)
        ]
    return Prompts(
        seed=seed,
        corpus_sha256=sha256_file(corpus),
        tokenizer_sha256=sha256_file(_tokenizer_file(model_dir)),
        prompts=tuple(prompts),
    )


def _offsets(tokens: int, body: int, count: int, seed: int, length: int, corpus: Path) -> list[int]:
    """`count` different starts, one in each of `count` equal parts of the corpus, in random order."""
    starts = tokens - body + 1
    if starts < count:
        raise ValueError(
            f"workload.prompt_lengths: {length} is too long for {corpus}, which has {tokens} tokens for this model; "
            f"{count} different prompts need at least {body + count - 1}: shorten the prompts or give a longer text"
        )
    generator = np.random.default_rng([seed, length])
    edges = np.linspace(0, starts, count + 1).astype(int)
    offsets = generator.integers(edges[:-1], edges[1:])
    return [int(offset) for offset in generator.permutation(offsets)]


def take_prompts(model_dir: Path, file: Path, lengths: Sequence[int], seed: int) -> Prompts:
    """The user's own prompts, cut to each of the lengths; without lengths as they are. Raises ValueError in one line
    that names the file and its line."""
    prompts = cut_prompts(file, encode_own(model_dir, file), lengths)
    return Prompts(
        seed=seed,
        corpus_sha256=sha256_file(file),
        tokenizer_sha256=sha256_file(_tokenizer_file(model_dir)),
        prompts=prompts,
    )


def encode_own(model_dir: Path, file: Path) -> list[Sequence[int]]:
    """The token ids of the user's own prompts; only texts need the tokenizer in `model_dir`."""
    opened = cache(open_tokenizer)

    def encode(text: str) -> tuple[int, ...]:
        prefix, encode_text = opened(model_dir)
        return (*prefix, *encode_text(text))

    return encode_prompts(file, _vocabulary(model_dir), encode)


class Tokenizer(NamedTuple):
    """A model's tokenizer."""

    prefix: tuple[int, ...]  # what it puts before any text
    encode: Callable[[str], tuple[int, ...]]  # a text, without the prefix


def _tokenizer_file(model_dir: Path) -> Path:
    return next(model_dir / name for name in TOKENIZER_FILES if (model_dir / name).is_file())


def encode_corpus(model_dir: Path, corpus: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts before any text, and the corpus, both as token ids.

    Raises ValueError for a tokenizer that cannot be read or gives ids that the model does not have.
    """
    prefix, encode = open_tokenizer(model_dir)
    text = encode(corpus.read_text(encoding="utf-8"))
    _check_vocabulary(model_dir, max((*prefix, *text), default=0))
    return prefix, text


def open_tokenizer(model_dir: Path) -> Tokenizer:
    """The tokenizer of a model. Raises ValueError in one line where it cannot be read."""
    file = _tokenizer_file(model_dir)
    with file.open("rb") as stream:
        check_pointer(stream.read(len(LFS_POINTER)), str(file))
    try:
        return _open(model_dir, file)
    except Exception as error:  # neither library raises anything narrower
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ValueError(f"{file}: no tokenizer that can be read ({reason}); fetch the model again") from error


def _open(model_dir: Path, file: Path) -> Tokenizer:
    if file.name == "tokenizer.json":
        import tokenizers

        fast = tokenizers.Tokenizer.from_file(str(file))
        fast.no_truncation()
        fast.no_padding()
        plain = fast.encode("a", add_special_tokens=False).ids
        prefix = _prefix(fast.encode("a").ids, plain)
        return Tokenizer(prefix, lambda text: tuple(fast.encode(text, add_special_tokens=False).ids))
    from transformers import AutoTokenizer

    slow = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False, local_files_only=True)
    prefix = _prefix(slow.encode("a"), slow.encode("a", add_special_tokens=False))
    return Tokenizer(prefix, lambda text: tuple(slow.encode(text, add_special_tokens=False)))


def _prefix(with_special: Sequence[int], plain: Sequence[int]) -> tuple[int, ...]:
    """The ids that come before the text itself; those after it (an end mark) do not belong to a prompt."""
    for start in range(len(with_special) - len(plain) + 1):
        if list(with_special[start : start + len(plain)]) == list(plain):
            return tuple(with_special[:start])
    return ()


def _check_vocabulary(model_dir: Path, largest: int) -> None:
    """An id beyond the embedding table would read another model's memory on a GPU."""
    vocabulary = _vocabulary(model_dir)
    if vocabulary is not None and largest >= vocabulary:
        raise ValueError(
            f"{model_dir}: the tokenizer gives id {largest}, the model has {vocabulary} tokens; they do not belong "
            "together: take the tokenizer that the model was saved with"
        )


def _vocabulary(model_dir: Path) -> int | None:
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    found: int | None = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    return found
