"""The JIT form of the dynamic operations: one compiled call before a prefill, one after each step."""

from __future__ import annotations

import shutil
import types
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from firsttoken.engine import rng
from firsttoken.hf.native_ops import StepState, begin_fused, choose_token, show_positions
from firsttoken.plan import Sampling, Unsupported

CompileCache = Literal["none", "cold", "cached"]


class CompiledOps:
    """Padding, positions, masks, sampling and noise, each step's in one compiled call."""

    def __init__(self, state: StepState, sampling: Sampling, seed: int, backend: str) -> None:
        self.state = state
        compile_call = _compiler(backend, state.logits.device)
        self._begin_args = (state.request, state.input_ids, state.last, state.position, state.rows, state.index)

        def begin(request: Any, input_ids: Any, last: Any, position: Any, rows: Any, index: Any) -> Any:
            begin_fused(request, input_ids, last, position, rows, index, state.windows, state.hidden)
            return last

        self._advance_args = (
            state.logits, state.token, state.position, state.rows, state.index, state.vocab_index, state.noise_state,
        )  # fmt: skip

        def advance(logits: Any, token: Any, position: Any, rows: Any, index: Any, vocab: Any, noise_state: Any) -> Any:
            noise = None
            if sampling.method != "greedy":
                noise = rng.exponential_noise(noise_state, vocab)
                noise_state[1:].add_(1)
            token.copy_(choose_token(logits, sampling, noise))
            position.add_(1)
            show_positions(rows, position, index, state.windows, state.hidden)
            return token

        with torch.inference_mode():
            self._begin = compile_call(begin, self._begin_args)
            self._advance = compile_call(advance, self._advance_args)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        self.state.noise_state.copy_(rng.new_state(seed, torch.device("cpu")))

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self.state.stage(prompt_ids)
        self.state.upload()
        self._begin(*self._begin_args)

    def advance(self) -> None:
        self._advance(*self._advance_args)


def _compiler(backend: str, device: torch.device) -> Callable[..., Callable[..., Any]]:
    if backend == "torchscript":
        return _trace
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise Unsupported("torch.compile on a CPU needs a C++ compiler (g++ or clang++), and none is on PATH")
    return _inductor


def _trace(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """TorchScript by tracing: every shape and choice here is fixed, so a trace holds all of it."""
    traced: Callable[..., Any] = torch.jit.trace(function, arguments, check_trace=False)
    for _ in range(3):  # the profiling executor settles in its first calls
        traced(*arguments)
    return traced


def _inductor(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """torch.compile with static shapes and no guards: the arguments are the same tensors in every call.

    Without guards a compiled function would also serve another engine's tensors, since dynamo keeps what it compiled by
    code object; so each call gets a code object of its own.
    """
    private = types.FunctionType(
        function.__code__.replace(co_name=f"{function.__name__}_{id(arguments):x}"),
        function.__globals__, function.__name__, function.__defaults__, function.__closure__,
    )  # fmt: skip
    compiled: Callable[..., Any] = torch.compile(
        private, fullgraph=True, dynamic=False, options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    )
    for _ in range(2):
        compiled(*arguments)
    return compiled
