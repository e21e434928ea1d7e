"""The user's own prompts: JSON Lines of `{"text": ...}` or `{"token_ids": [...]}`, each mistake named by its line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from firsttoken.plan import Prompt, Record

MOST_PROMPTS = 10_000
MOST_LENGTHS = 100  # each is measured by itself, and has a graph and a row of every table
MOST_TOKENS = 10_000_000
MOST_BYTES = 1 << 28


class OwnPrompt(Record, frozen=True, kw_only=True):
    """A line of the file; one of the two is given."""

    text: str = ""
    token_ids: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()


def read_prompts(file: Path) -> list[OwnPrompt]:
    """Every line's prompt. Raises ValueError in one line with the file and the number of the line."""
    try:
        size = file.stat().st_size
        if not file.is_file() or size > MOST_BYTES:
            raise ValueError(
                f"workload.prompts: {file}: no plain file of at most {MOST_BYTES:,} bytes; name a file of JSON Lines"
            )
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"workload.prompts: {file}: {error.strerror}; name a file of JSON Lines") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        try:
            prompt = msgspec.json.decode(line, type=OwnPrompt)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _mistake(file, number, str(error)) from error
        if bool(prompt.text.strip()) == bool(prompt.token_ids):
            raise _mistake(file, number, "both, or neither, of a text and token ids")
        prompts.append(prompt)
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise ValueError(f"workload.prompts: {file}: has {len(prompts)} lines; give 1 to {MOST_PROMPTS:,}")
    return prompts


def encode_prompts(file: Path, vocabulary: int | None, encode: Callable[[str], Sequence[int]]) -> list[Sequence[int]]:
    """The token ids of every line. `encode`: a text's, with what the tokenizer puts before it; `vocabulary`: None where
    the model does not say. Raises ValueError in one line."""
    encoded: list[Sequence[int]] = []
    for number, prompt in enumerate(read_prompts(file), 1):
        ids = prompt.token_ids or tuple(encode(prompt.text))
        if not ids:
            raise _mistake(file, number, "a text of which the tokenizer makes no token")
        if vocabulary is not None and max(ids) >= vocabulary:
            raise _mistake(file, number, f"token id {max(ids)}, and the model knows {vocabulary}")
        encoded.append(ids)
    tokens = sum(map(len, encoded))
    if tokens > MOST_TOKENS:
        raise ValueError(f"workload.prompts: {file}: has {tokens:,} tokens; must be at most {MOST_TOKENS:,}")
    return encoded


def prompt_lengths(file: Path, encoded: Sequence[Sequence[int]]) -> list[int]:
    """The different lengths in tokens. Raises ValueError where they are too many to be measured one by one."""
    lengths = sorted({len(ids) for ids in encoded})
    if len(lengths) > MOST_LENGTHS:
        raise ValueError(
            f"workload.prompts: {file}: has prompts of {len(lengths)} different lengths; at most {MOST_LENGTHS} are "
            "measured: cut them to some lengths with workload.prompt_lengths"
        )
    return lengths


def cut_prompts(file: Path, encoded: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[Prompt, ...]:
    """Every prompt cut to each length, or, without lengths, as it is. Raises ValueError for one that is too short."""
    prompts = []
    for length in lengths or prompt_lengths(file, encoded):
        found = [(line, ids) for line, ids in enumerate(encoded, 1) if lengths or len(ids) == length]
        for index, (line, ids) in enumerate(found):
            if len(ids) < length:
                raise _mistake(file, line, f"{len(ids)} tokens, and workload.prompt_lengths has {length}")
            prompts.append(Prompt(index=index, length=length, offset=0, token_ids=tuple(ids[:length])))
    return tuple(prompts)


def _mistake(file: Path, number: int, found: str) -> ValueError:
    wanted = 'a line is {"text": "..."} or {"token_ids": [1, 2]}'
    return ValueError(f"workload.prompts: {file}, line {number}: found {found}; {wanted}, for this model")
