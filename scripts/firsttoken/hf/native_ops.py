"""The dynamic work of a step: padding, positions, masks, sampling; as native PyTorch or as one compiled call.

Both forms have one interface: `begin(prompt_ids)` before a prefill, `advance()` after each step. They work in place on
`StepState`, whose tensors never move, and never wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from firsttoken.engine import rng
from firsttoken.hf.masks import MaskPlan
from firsttoken.plan import Sampling


class StepState:
    """What steps read and dynamic operations write, at fixed addresses on the device."""

    def __init__(self, plan: MaskPlan, vocab_size: int, seed: int, pin: bool) -> None:
        device = plan.device
        self.rows = plan.decode_rows()
        self.windows = plan.windows
        self.hidden = plan.hidden
        self.index = torch.arange(plan.capacity, device=device)
        self.input_ids = torch.zeros(1, plan.capacity, dtype=torch.int64, device=device)
        self.last = torch.zeros(1, dtype=torch.int64, device=device)  # index of the prompt's last token
        self.token = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of `token`, where its keys and values go
        self.logits = torch.zeros(1, vocab_size, dtype=plan.dtype, device=device)
        self.vocab_index = torch.arange(vocab_size, device=device)
        self.noise_state = rng.new_state(seed, device)
        # [length, ids..., stale ids of earlier prompts...]: one transfer brings a request to the device
        self.staging = torch.zeros(1 + plan.capacity, dtype=torch.int64, pin_memory=pin)
        self.staging_host: np.ndarray = self.staging.numpy()
        self.request = self.staging if not pin else torch.zeros_like(self.staging, device=device)

    def stage(self, prompt_ids: Sequence[int]) -> int:
        """Put a prompt into the staging buffer on the host; returns its length."""
        length = len(prompt_ids)
        self.staging_host[0] = length
        self.staging_host[1 : 1 + length] = prompt_ids
        return length

    def upload(self) -> None:
        """Queue the staged prompt's transfer; nothing to do where the device reads the staging buffer itself."""
        if self.request is not self.staging:
            self.request.copy_(self.staging, non_blocking=True)


class DynamicOps(Protocol):
    """What the engine calls around its steps."""

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Stage a prompt: padded `input_ids`, position and masks of its last token."""

    def advance(self) -> None:
        """Choose the next token from `logits`; move position and masks to it."""

    def reseed(self, seed: int) -> None:
        """Start the random stream anew."""


def begin_fused(
    request: torch.Tensor,
    input_ids: torch.Tensor,
    last: torch.Tensor,
    position: torch.Tensor,
    rows: list[torch.Tensor],
    index: torch.Tensor,
    windows: list[int],
    hidden: float,
) -> None:
    """Zero padding behind the prompt, position and masks of its last token: all from the one uploaded tensor."""
    length = request[:1]
    input_ids.copy_(torch.where(index < length, request[1:], 0)[None])
    last.copy_(length - 1)
    position.copy_(length - 1)
    show_positions(rows, position, index, windows, hidden)


def show_positions(
    rows: list[torch.Tensor], position: torch.Tensor, index: torch.Tensor, windows: list[int], hidden: float
) -> None:
    """Make each row hide all positions but those that a query at `position` sees."""
    for row, window in zip(rows, windows, strict=True):
        seen = (index <= position) & (index > position - window)
        row.copy_(torch.where(seen, 0.0, hidden)[None, None, None])


def keep_likely(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities `[1, vocab]`, float32, after temperature, top-k and top-p, in the order that `generate()` applies
    them."""
    scores = logits.float() / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        least = torch.topk(scores, sampling.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, order = torch.sort(scores, dim=-1, descending=True)
        share = torch.softmax(ordered, dim=-1)
        share_before = torch.cumsum(share, dim=-1) - share  # 0 for the first, which therefore always stays
        dropped = share_before >= sampling.top_p
        scores = scores.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), float("-inf"))
    return torch.softmax(scores, dim=-1)


def choose_token(logits: torch.Tensor, sampling: Sampling, noise: torch.Tensor | None) -> torch.Tensor:
    """The next token `[1, 1]`: the best one, or argmax(p / Exponential(1)), which draws from p without a host sync."""
    if sampling.method == "greedy":
        return torch.argmax(logits, dim=-1, keepdim=True)
    assert noise is not None
    return torch.argmax(keep_likely(logits, sampling) / noise, dim=-1, keepdim=True)


class NativeOps:
    """Operator by operator, with a generator of its own."""

    def __init__(self, state: StepState, sampling: Sampling, seed: int) -> None:
        self.state, self.sampling = state, sampling
        self.generator = torch.Generator(state.logits.device)
        self.reseed(seed)
        self.noise = torch.ones(state.logits.shape, dtype=torch.float32, device=state.logits.device)

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        state = self.state
        length = state.stage(prompt_ids)
        state.upload()
        state.input_ids.zero_()
        state.input_ids[:, :length].copy_(state.request[1 : 1 + length])
        state.last.fill_(length - 1)
        state.position.fill_(length - 1)
        show_positions(state.rows, state.position, state.index, state.windows, state.hidden)

    def advance(self) -> None:
        state = self.state
        noise = None
        if self.sampling.method != "greedy":
            noise = self.noise.exponential_(generator=self.generator)
        state.token.copy_(choose_token(state.logits, self.sampling, noise))
        state.position.add_(1)
        for row, window in zip(state.rows, state.windows, strict=True):
            row.index_fill_(3, state.position, 0.0)
            if window < row.shape[-1]:
                row.masked_fill_(state.index <= state.position - window, state.hidden)
