"""Where approaches push tokens in tests."""

from __future__ import annotations

from collections.abc import Sequence


class Chunks:
    """Keeps the tokens of an approach that hands over several at once, each time as one chunk."""

    def __init__(self) -> None:
        self.chunks: list[list[int]] = []

    def push(self, token: int) -> None:
        self.push_chunk([token])

    def push_chunk(self, tokens: Sequence[int]) -> None:
        assert all(type(token) is int for token in tokens)
        self.chunks.append(list(tokens))


class OneByOne:
    """Keeps the tokens of an approach that hands over each as soon as it is an `int`."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def push(self, token: int) -> None:
        assert type(token) is int
        self.tokens.append(token)

    def push_chunk(self, tokens: Sequence[int]) -> None:
        raise AssertionError("this approach hands over one token at a time")
