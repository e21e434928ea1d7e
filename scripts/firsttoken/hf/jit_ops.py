"""The dynamic operations, JIT-compiled: one compiled call before a prefill, one after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from firsttoken.engine.compilation import compile_fixed
from firsttoken.engine.sampling import choose_token_on_device, mark_prompt
from firsttoken.hf.native_ops import HfState, show_positions
from firsttoken.plan import Sampling


class JitOps:
    """Padding, positions, masks, sampling and noise, each step's in one compiled call."""

    def __init__(self, state: HfState, sampling: Sampling, backend: str) -> None:
        self.state = state
        compile_call = _trace if backend == "torchscript" else compile_fixed
        windows, hidden = state.windows, state.hidden

        def begin(request: Any, input_ids: Any, position: Any, rows: Any, index: Any, seen: Any) -> Any:
            """Zero padding behind the prompt, position and masks of its last token, the tokens seen: all from the
            uploaded tensor."""
            last = request[:1]
            input_ids.copy_(torch.where(index <= last, request[1:], 0)[None])
            position.copy_(last)
            show_positions(rows, position, index, windows, hidden)
            mark_prompt(seen, request, index, sampling)
            return position

        def advance(
            logits: Any, token: Any, position: Any, rows: Any, index: Any, vocab: Any, noise_state: Any, seen: Any
        ) -> Any:
            token.copy_(choose_token_on_device(logits, sampling, noise_state, vocab, seen))
            position.add_(1)
            show_positions(rows, position, index, windows, hidden)
            return token

        self._begin_arguments, self._advance_arguments = _begin_arguments(state), _advance_arguments(state)
        with torch.inference_mode():
            self._begin = compile_call(begin, self._begin_arguments)
            self._advance = compile_call(advance, self._advance_arguments)
        self.reseed = state.reseed

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self.state.stage(prompt_ids, len(prompt_ids))
        self.state.upload(len(prompt_ids))
        self._begin(*self._begin_arguments)

    def advance(self) -> None:
        self._advance(*self._advance_arguments)

    def begin_on_device(self, state: HfState) -> None:
        """`begin` for a prompt that has been uploaded to `state`."""
        self._begin(*_begin_arguments(state))

    def advance_on_device(self, state: HfState) -> None:
        """`advance` over another state."""
        self._advance(*_advance_arguments(state))


def _begin_arguments(state: HfState) -> tuple[Any, ...]:
    return state.request, state.input_ids, state.position, state.rows, state.index, state.seen


def _advance_arguments(state: HfState) -> tuple[Any, ...]:
    return (
        state.logits, state.token, state.position, state.rows, state.index, state.vocab_index, state.noise_state,
        state.seen,
    )  # fmt: skip


def _trace(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """TorchScript by tracing: every shape and choice here is fixed, so a trace holds all of it."""
    traced: Callable[..., Any] = torch.jit.trace(function, arguments, check_trace=False)
    for _ in range(3):  # the profiling executor settles in its first calls
        traced(*arguments)
    return traced
