"""The dynamic work around a step, as native PyTorch: padding, positions, masks, sampling.

`begin(prompt_ids)` runs before a prefill, `advance()` after each step, in place on `HfState`; neither waits for the
device. `jit_ops` has the same as compiled calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from firsttoken.engine.sampling import choose_token, mark_prompt
from firsttoken.engine.state import StepState
from firsttoken.hf.masks import MaskPlan
from firsttoken.plan import Sampling


class HfState(StepState):
    """The request's buffers, with what Hugging Face's forward reads: padded ids, and masks of a decode step."""

    def __init__(self, masks: MaskPlan, vocab_size: int, seed: int) -> None:
        super().__init__(masks.capacity, vocab_size, masks.dtype, masks.device, seed)
        self._masks = masks
        self.rows = masks.decode_rows()
        self.windows, self.hidden = masks.windows, masks.hidden
        self.input_ids = torch.zeros(1, masks.capacity, dtype=torch.int64, device=masks.device)

    def scratch(self) -> HfState:
        """A second set of buffers for warm-ups, so that nothing that a request will read is touched."""
        scratch = HfState(self._masks, self.logits.shape[-1], seed=0)
        for row in scratch.rows:
            row.zero_()
        return scratch


def show_positions(
    rows: list[torch.Tensor], position: torch.Tensor, index: torch.Tensor, windows: list[int], hidden: float
) -> None:
    """Make each row hide all positions but those that a query at `position` sees."""
    for row, window in zip(rows, windows, strict=True):
        seen = (index <= position) & (index > position - window)
        row.copy_(torch.where(seen, 0.0, hidden)[None, None, None])


class NativeOps:
    """Operator by operator, with a generator of its own."""

    def __init__(self, state: HfState, sampling: Sampling, seed: int) -> None:
        self.state, self.sampling = state, sampling
        self.generator = torch.Generator(state.logits.device)
        self.reseed(seed)
        self.noise = torch.ones(state.logits.shape, dtype=torch.float32, device=state.logits.device)

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        state, length = self.state, len(prompt_ids)
        state.stage(prompt_ids, length)
        state.upload(length)
        state.input_ids.zero_()
        state.input_ids[:, :length].copy_(state.request[1 : 1 + length])
        state.position.fill_(length - 1)
        mark_prompt(state.seen, state.request, state.index, self.sampling)
        show_positions(state.rows, state.position, state.index, state.windows, state.hidden)

    def choose(self) -> None:
        """`state.token` becomes the next token."""
        state, noise = self.state, None
        if self.sampling.method != "greedy":
            noise = self.noise.exponential_(generator=self.generator)
        state.token.copy_(choose_token(state.logits, self.sampling, noise, state.seen))

    def advance(self) -> None:
        self.choose()
        state = self.state
        state.position.add_(1)
        for row, window in zip(state.rows, state.windows, strict=True):
            row.index_fill_(3, state.position, 0.0)
            if window < row.shape[-1]:
                row.masked_fill_(state.index <= state.position - window, state.hidden)
