"""The prefill and decode steps of `compiled_graph`: everything that a token needs, over buffers that never move.

Prefill: the prompt's transfer, embedding, layers, head, sampling; leaves the first token and its position in the
buffers. Decode: reads token and position, leaves the next ones. What the host gives is in pinned memory at a fixed
address, so each can be captured whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from firsttoken.compiled.compiled_attention import DecodeView, attach_cache
from firsttoken.compiled.compiled_regions import CompileOptions, Compiler, install_regions
from firsttoken.compiled.folded_norms import fold_norms
from firsttoken.compiled.fused_projections import fuse_projections, part_gate_and_up
from firsttoken.compiled.step_buffers import StepBuffers
from firsttoken.compiled.triton_launch import out_of_resources
from firsttoken.compiled.triton_layers import Unserved, WrittenModules, written_modules
from firsttoken.compiled.triton_tuning import Timed, Tuner
from firsttoken.engine import rng
from firsttoken.hf.eager_decode import teacher_forced_logits
from firsttoken.hf.native_ops import choose_token
from firsttoken.plan import Sampling, Unsupported

# How far our attention may be from the stock one, as |difference| / |logits|; a wrong mask or scale is off by far more.
LARGEST_ERROR = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 0.1}
CHECK_STEPS = 3
CHECK_LENGTHS = (16, 72)  # prompts at least so long: products and attention of few rows, and of many


@dataclass(frozen=True)
class StepOptions:
    """Choices of speed, none of which changes a result beyond rounding."""

    decode: CompileOptions = field(default_factory=CompileOptions)
    # A prompt's products have many rows, where cuBLAS is good and tuning for one row has nothing to do.
    prefill: CompileOptions = field(default_factory=lambda: CompileOptions(tuned=False))
    decode_attention: str = "plain"
    fuse: bool = True
    kernels: Literal["triton", "inductor"] = "triton"  # of a decode step's layers, where Triton and the model allow
    # PDL for those kernels, where the device has it (compute capability 9): on an H200 the median gap was 3.45 ms with
    # it and 3.48 ms without, the P99 3.79 and 3.55 ms, and set-up took twice as long with it.
    dependent_launch: bool = False
    fold: bool = True  # norms into the products behind them; gate and up into one kernel with what follows


@dataclass(frozen=True)
class Check:
    """A prompt, a continuation, and the stock model's logits of the continuation, float32."""

    ids: list[int]
    continuation: list[int]
    expected: torch.Tensor


@dataclass(frozen=True)
class _Form:
    """The steps under one compiler, or plain."""

    compiler: Compiler | None
    prefill: Callable[[torch.Tensor, torch.Tensor], None]
    decode: Callable[[], None]
    written: WrittenModules = field(default_factory=WrittenModules)  # modules that hand-written kernels compute


class CompiledSteps:
    """A model made ready: projections fused, cache attached, regions installed; gives the step functions.

    Raises Unsupported for a model whose logits come out differently, or whose layers cannot be reached.
    """

    def __init__(
        self,
        model: Any,
        max_context: int,
        sampling: Sampling,
        seed: int,
        options: StepOptions,
        tuning_folder: str = "",  # where the best configs of hand-written kernels are kept for later processes
    ) -> None:
        device = next(model.parameters()).device
        vocab_size = model.config.get_text_config().vocab_size
        self.model, self.max_context = model, max_context
        self.buffers = StepBuffers(max_context, vocab_size, model.dtype, device, seed)
        self._sampling = sampling
        self._view = DecodeView(bucket=max_context, form=options.decode_attention)
        checks = []
        for ids, continuation in self._check_texts():
            checks.append(Check(ids, continuation, teacher_forced_logits(model, ids, continuation)))
        with torch.inference_mode():
            self.kv_bytes = attach_cache(model, max_context, self.buffers.position, self._view)
            self.fused_groups = fuse_projections(model) if options.fuse else 0
            if options.fold:
                fold_norms(model, self._trial)
                part_gate_and_up(model)
            self._regions = install_regions(model)
            self._plain = self._form(None)
            self._decode_form = self._form(Compiler(options.decode, device))
            self._prefill_form = self._form(Compiler(options.prefill, device))
            error = self._logits_error(checks, self._plain)
            if not error <= LARGEST_ERROR[model.dtype]:
                raise Unsupported(
                    f"{type(model).__name__}: logits differ from transformers' own by {error:.2g} of their size, so "
                    "its attention is not what compiled_graph computes"
                )
            self.has_prompt_layers = False  # whether hand-written kernels compute a prefill's layers
            self.timed: dict[str, list[Timed]] = {}  # what was tuned here, by product
            self.kernels = self._write_kernels(options, tuning_folder, checks)

    def decode_step(self, bucket: int, plain: bool = False) -> Callable[[], None]:
        """A step that reads the first `bucket` positions of the cache; `plain`: not compiled."""
        return self._step_of(self._plain if plain else self._decode_form, bucket)

    def _step_of(self, form: _Form, bucket: int) -> Callable[[], None]:
        def step() -> None:
            self._view.bucket = bucket
            with self._regions.under(form.compiler, form.written.decode):
                form.decode()

        return step

    def prefill_step(self, padded_length: int, plain: bool = False) -> Callable[[], None]:
        """A step over the staged prompt of `padded_length` ids; `plain`: not compiled, for lengths not prepared."""
        return self._prefill_of(self._plain if plain else self._prefill_form, padded_length, plain)

    def _prefill_of(self, form: _Form, padded_length: int, plain: bool) -> Callable[[], None]:
        buffers, request, index = self.buffers, self.buffers.request, self.buffers.index

        def step() -> None:
            buffers.transfer(padded_length)
            with self._regions.under(form.compiler, form.written.prefill):
                form.prefill(request[None, 1 : 1 + padded_length], index[:, :padded_length])

        def step_of_one() -> None:  # a prompt of one token is a decode step at position 0
            buffers.transfer(1)
            buffers.token.copy_(request[1:2, None])
            buffers.position.zero_()
            decode()

        decode = self.decode_step(min(16, self.max_context), plain)
        return step if padded_length > 1 else step_of_one

    def teacher_forced(
        self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], run: Callable[[int, int], None]
    ) -> torch.Tensor:
        """Logits as in `eager_decode.teacher_forced_logits`, through this object's steps.

        `run(index, length)` runs the prefill (index 0) or the decode step that reads position `length`.
        """
        buffers = self.buffers
        rows = []
        for index, token in enumerate(continuation_ids):
            run(index, len(prompt_ids) + index - 1)
            rows.append(buffers.logits[0].to("cpu", torch.float32, copy=True))
            buffers.token.fill_(token)
        return torch.stack(rows)

    def _form(self, compiler: Compiler | None) -> _Form:
        buffers, model, sampling = self.buffers, self.model, self._sampling

        def choose(logits: torch.Tensor, position: torch.Tensor) -> None:
            """Choose the token that follows `position`, hand it over, move on. `logits` `[1, 1, vocab]`."""
            noise = None
            if sampling.method != "greedy":
                noise = rng.exponential_noise(buffers.noise_state, buffers.vocab_index)
                buffers.noise_state[1:].add_(1)
            buffers.logits.copy_(logits[0])
            buffers.token.copy_(choose_token(logits[0], sampling, noise))
            buffers.position.copy_(position + 1)

        whole = compiler is not None and compiler.options.regions == "whole"
        finish = choose if compiler is None or whole else compiler.compile(choose)

        def prefill(ids: torch.Tensor, positions: torch.Tensor) -> None:
            last = buffers.request[:1]
            finish(model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=last).logits, last)

        def decode() -> None:
            position = buffers.position
            finish(model(input_ids=buffers.token, position_ids=position[None], use_cache=False).logits, position)

        if compiler is None or not whole:
            return _Form(compiler, prefill, decode)
        return _Form(None, compiler.compile(prefill), compiler.compile(decode))

    # -------------------------------------------------------------- proof that the steps compute the model

    def _trial(self) -> None:
        one = self.buffers.request[None, :1] * 0
        self.model(input_ids=one, position_ids=one, use_cache=False)

    def _check_texts(self) -> list[tuple[list[int], list[int]]]:
        """Prompts that are longer than the model's attention window, where the cache allows it, with continuations."""
        config = self.model.config.get_text_config()
        window = getattr(config, "sliding_window", None) or 0
        room = max(1, self.max_context - CHECK_STEPS)
        texts = []
        for length in sorted({min(max(window + 8, wanted), room) for wanted in CHECK_LENGTHS}):
            ids = [(7 + 13 * i + 5 * i * i) % config.vocab_size for i in range(length + CHECK_STEPS)]
            texts.append((ids[:length], ids[length:]))
        return texts

    def _logits_error(self, checks: Sequence[Check], form: _Form) -> float:
        """Largest |difference| / |logits| of a row, by the steps of the given form."""
        largest = 0.0
        for check in checks:

            def run(index: int, position: int, length: int = len(check.ids)) -> None:
                if index == 0:
                    self._prefill_of(form, length, plain=True)()
                else:
                    self._step_of(form, self.max_context)()

            self.buffers.stage(check.ids, len(check.ids))
            found = self.teacher_forced(check.ids, check.continuation, run)
            errors = (found - check.expected).norm(dim=-1) / check.expected.norm(dim=-1)
            largest = max(largest, float(errors.nan_to_num(nan=float("inf")).max()))
        return largest

    def _write_kernels(self, options: StepOptions, folder: str, checks: Sequence[Check]) -> str:
        """Give the steps their hand-written kernels, if these compute this model; returns what decode runs by."""
        if options.kernels == "inductor" or options.decode.regions == "whole":
            return "inductor"
        device = self.buffers.position.device
        pdl = options.dependent_launch and device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9
        tuner = Tuner(folder, pdl)
        try:
            written = written_modules(self.model, self._view, tuner, pdl)
        except Unserved as reason:
            return f"inductor: {reason}"
        self.timed = tuner.timed
        try:
            error = self._logits_error(checks, replace(self._plain, written=written))
        except out_of_resources() as reason:
            return f"inductor: {reason}"
        if not error <= LARGEST_ERROR[self.model.dtype]:
            return f"inductor: the kernels' logits differ by {error:.2g} of their size"
        self._decode_form = replace(self._decode_form, written=written)
        if self._prefill_form.compiler is not None:  # else the prompt is one graph, whose parts no one can replace
            self._prefill_form = replace(self._prefill_form, written=written)
            self.has_prompt_layers = written.has_prompt_layers
        return f"triton{' with dependent launch' if pdl else ''}"
