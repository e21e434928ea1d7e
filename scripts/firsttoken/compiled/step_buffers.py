"""What the steps of `compiled_graph` read and write, at addresses that never change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from firsttoken.engine import rng


class StepBuffers:
    """What the steps read and write, at fixed addresses."""

    def __init__(self, max_context: int, vocab_size: int, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        pinned = device.type == "cuda"
        # [index of the last true token, ids...]: one transfer brings a prompt to the device
        self.staging = torch.zeros(1 + max_context, dtype=torch.int64, pin_memory=pinned)
        self.staging_host: np.ndarray = self.staging.numpy()
        self.request = torch.zeros(1 + max_context, dtype=torch.int64, device=device)
        self.index = torch.arange(max_context, device=device)[None]
        self.token = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of `token`, where its keys and values go
        self.logits = torch.zeros(1, vocab_size, dtype=dtype, device=device)
        self.vocab_index = torch.arange(vocab_size, device=device)
        self.noise_state = rng.new_state(seed, device)

    def reseed(self, seed: int) -> None:
        """Start the random stream anew."""
        self.noise_state.copy_(rng.new_state(seed, self.noise_state.device))

    def stage(self, prompt_ids: Sequence[int], padded_length: int) -> None:
        """Put a prompt where the next prefill takes it from, with zeros behind; the prefill before must be over."""
        length = len(prompt_ids)
        self.staging_host[0] = length - 1
        self.staging_host[1 : 1 + length] = prompt_ids
        self.staging_host[1 + length : 1 + padded_length] = 0

    def transfer(self, padded_length: int) -> None:
        """Queue the transfer of what is staged; a part of each prefill, so that a captured one needs no call for it."""
        self.request[: 1 + padded_length].copy_(self.staging[: 1 + padded_length], non_blocking=True)

    def clear(self) -> None:
        """A prompt of one token at position 0, with which no step runs past the end of a buffer."""
        self.staging_host[:] = 0
        self.request.zero_()
        self.position.zero_()
