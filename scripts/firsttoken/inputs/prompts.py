"""Prompts of exact lengths, cut from real text; needs the tokenizers library and, for most models, nothing else.

A prompt is a slice of the corpus as the model's tokenizer encodes it: never padded, never cut short. Where the
tokenizer puts a token before every text (Llama's `<s>`), each prompt starts with it and its length includes it, since
that is what a person's prompt of that length is to the model; a prompt that would be nothing else is one token of
text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firsttoken.files import sha256_file
from firsttoken.inputs.model_files import TOKENIZER_FILES
from firsttoken.inputs.weight_headers import LFS_POINTER, check_pointer
from firsttoken.plan import Prompt, Prompts


def make_prompts(model_dir: Path, corpus: Path, lengths: Sequence[int], per_length: int, seed: int) -> Prompts:
    """`per_length` different prompts of each length; those of one length do not depend on the other lengths.

    Raises ValueError if the corpus is too short for a length, or the tokenizer is damaged or gives ids that the model
    does not have.
    """
    tokenizer_file, prefix, text = encode_corpus(model_dir, corpus)
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
        tokenizer_sha256=sha256_file(tokenizer_file),
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


def encode_corpus(model_dir: Path, corpus: Path) -> tuple[Path, tuple[int, ...], tuple[int, ...]]:
    """The tokenizer's main file, what it puts before any text, and the corpus, both as token ids.

    Raises ValueError for a tokenizer that cannot be read or gives ids that the model does not have.
    """
    file = next(model_dir / name for name in TOKENIZER_FILES if (model_dir / name).is_file())
    with file.open("rb") as stream:
        check_pointer(stream.read(len(LFS_POINTER)), str(file))
    try:
        prefix, text = _encode(model_dir, file, corpus.read_text(encoding="utf-8"))
    except Exception as error:  # neither library raises anything narrower
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ValueError(f"{file}: no tokenizer that can be read ({reason}); fetch the model again") from error
    _check_vocabulary(model_dir, max((*prefix, *text), default=0))
    return file, prefix, text


def _encode(model_dir: Path, tokenizer_file: Path, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if tokenizer_file.name == "tokenizer.json":
        from tokenizers import Tokenizer

        fast = Tokenizer.from_file(str(tokenizer_file))
        fast.no_truncation()
        fast.no_padding()
        probe = fast.encode("a")
        plain = fast.encode("a", add_special_tokens=False).ids
        return _prefix(probe.ids, plain), tuple(fast.encode(text, add_special_tokens=False).ids)
    from transformers import AutoTokenizer

    slow = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False, local_files_only=True)
    plain = slow.encode("a", add_special_tokens=False)
    return _prefix(slow.encode("a"), plain), tuple(slow.encode(text, add_special_tokens=False))


def _prefix(with_special: Sequence[int], plain: Sequence[int]) -> tuple[int, ...]:
    """The ids that come before the text itself; those after it (an end mark) do not belong to a prompt."""
    for start in range(len(with_special) - len(plain) + 1):
        if list(with_special[start : start + len(plain)]) == list(plain):
            return tuple(with_special[:start])
    return ()


def _check_vocabulary(model_dir: Path, largest: int) -> None:
    """An id beyond the embedding table would read another model's memory on a GPU."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    vocabulary = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    if vocabulary is not None and largest >= vocabulary:
        raise ValueError(
            f"{model_dir}: the tokenizer gives id {largest}, the model has {vocabulary} tokens; they do not belong "
            "together: take the tokenizer that the model was saved with"
        )
