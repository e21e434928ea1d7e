"""What the steps of a request read and write, at addresses that never change."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch

from firsttoken.engine import rng


class StepState:
    """Buffers of one request. Captured graphs hold their addresses."""

    def __init__(self, capacity: int, vocab_size: int, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        on_device = device.type == "cuda"
        self.index = torch.arange(capacity, device=device)
        self.token = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of `token`, where its keys and values go
        self.logits = torch.zeros(1, vocab_size, dtype=dtype, device=device)
        self.vocab_index = torch.arange(vocab_size, device=device)
        self.seen = torch.zeros(1, vocab_size, dtype=torch.bool, device=device)  # tokens that a penalty applies to
        self.noise_state = rng.new_state(seed, device)
        # [index of the last prompt token, ids..., stale ids...]: one transfer brings a prompt to the device
        self.staging = torch.zeros(1 + capacity, dtype=torch.int64, pin_memory=on_device)
        # A memoryview: numpy's few calls, once a request and out of the caches, took 60 us of a first token.
        self._staging_host = self.staging.numpy().data.cast("B").cast("q")
        self._zeros = memoryview(bytes(8 * capacity)).cast("q")
        self.request = torch.zeros_like(self.staging, device=device) if on_device else self.staging
        self.last = self.request[:1]

    def stage(self, prompt_ids: Sequence[int], padded_length: int) -> None:
        """Put a prompt into the staging buffer on the host, zeros behind it up to `padded_length`. Raises as
        `check`."""
        self.check(prompt_ids)
        length, staged = len(prompt_ids), self._staging_host
        staged[0] = length - 1
        staged[1 : 1 + length] = memoryview(array("q", prompt_ids))
        staged[1 + length : 1 + padded_length] = self._zeros[: padded_length - length]

    def check(self, token_ids: Sequence[int]) -> None:
        """Raises ValueError for an id that is not in the vocabulary: a GPU would read past a table."""
        vocabulary = self.logits.shape[1]
        if min(token_ids) < 0 or max(token_ids) >= vocabulary:
            wrong = next(token for token in token_ids if not 0 <= token < vocabulary)
            raise ValueError(f"token id {wrong} is not in the model's vocabulary of {vocabulary}")

    def upload(self, length: int) -> None:
        """Queue the transfer of the first `length` staged ids; nothing to do where the device reads them itself."""
        if self.request is not self.staging:
            self.request[: 1 + length].copy_(self.staging[: 1 + length], non_blocking=True)

    def reseed(self, seed: int) -> None:
        """Start the random stream anew."""
        self.noise_state.copy_(rng.new_state(seed, torch.device("cpu")))
