"""The steps of `compiled_graph`: all that a token needs, dynamic operations included, to be captured as a whole.

They run our own decoder where it covers the model, else torch.compile over Hugging Face's steps; the facts say which.
Those of `compiled_graph_int8` run our decoder with quantised weights, or not at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import torch

from firsttoken.compiled import hopper
from firsttoken.compiled.coverage import triton_problem, uncovered
from firsttoken.compiled.tiles import FILLED_INSIDE, FLOAT_TILES
from firsttoken.engine.base import EngineSpec
from firsttoken.engine.buckets import bucket_for_position, kv_buckets, padded_length
from firsttoken.engine.compilation import compile_fixed, use_compile_cache
from firsttoken.engine.sampling import choose_token_on_device, mark_prompt
from firsttoken.engine.state import StepState
from firsttoken.hf.eager_decode import teacher_forced_logits
from firsttoken.hf.kv_cache import aligned
from firsttoken.hf.load import load_model, tf32_state
from firsttoken.hf.steps import CapturedHfSteps, vocab_size
from firsttoken.plan import Unsupported
from firsttoken.results import Facts

# How far our logits may be from the stock ones, as |difference| / |logits|; a wrong mask or scale is off by far more.
LARGEST_ERROR = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 0.1}
CHECK_STEPS = 3  # decode steps behind each checked prompt


def load_compiled_steps(spec: EngineSpec, device: torch.device) -> DecoderSteps | CapturedHfSteps:
    """Load the model. Raises Unsupported for one that no way computes."""
    cache, plan = use_compile_cache(spec.plan.compile_cache_dir), spec.plan
    dtype = getattr(torch, plan.dtype)
    model: Any = load_model(spec.model_dir, plan.dtype, "cpu", threads=plan.threads)
    reason = triton_problem(device) or uncovered(model.config, dtype, device)
    if not reason:
        return DecoderSteps(model, spec, device, Facts(compile_cache=cache))
    if spec.forward == "compiled_int8":
        raise Unsupported(f"8-bit weights need our decoder: {reason}")
    if device.type == "cpu":
        kernels = f"Hugging Face's forward, not compiled: {reason}"
        return CapturedHfSteps(model, spec, device, Facts(compile_cache=cache, kernels=kernels), compiled=False)
    facts = Facts(compile_cache=cache, kernels=f"torch.compile over Hugging Face's forward: {reason}")
    return CapturedHfSteps(model.to(device), spec, device, facts, compiled=True)


class DecoderSteps:
    """See `engine.loop.Steps`. Raises Unsupported for a model whose logits differ from transformers' own."""

    advance = None  # the dynamic operations are part of the steps

    def __init__(self, model: Any, spec: EngineSpec, device: torch.device, facts: Facts) -> None:
        from firsttoken.compiled.model import take_weights

        plan = self.plan = spec.plan
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if longest is not None and plan.max_context > longest:
            raise Unsupported(f"{plan.max_context} positions asked for, max_position_embeddings is {longest}")
        if device.type == "cuda":
            # For products of many rows that add to their result: 63 us where cuBLAS took 66 (500 rows, 11008 columns,
            # 4096 out, float16, H100). For the whole process, since captures run beside requests.
            torch.backends.cuda.preferred_blas_library("cublaslt")
        self.capacity = aligned(plan.max_context)
        self._facts, self._hf_model, self._int8 = facts, model, spec.forward == "compiled_int8"
        self.decoder = take_weights(model, device, self.capacity)
        self.state, self._scratch_state = (
            StepState(self.capacity, vocab_size(model), model.dtype, device, plan.seed) for _ in range(2)
        )
        self.cache = self.decoder.new_cache(self.capacity)
        self._scratch_cache = self.decoder.new_cache(self.capacity, shared=True)

    def compile(self) -> None:
        """Tune the kernels, compile the choice of a token, and compare with transformers' own forward."""
        from firsttoken.compiled.model import norm_gains, round_weights

        sampling = self.plan.sampling

        def finish(logits: Any, token: Any, position: Any, vocab_index: Any, noise_state: Any, seen: Any) -> Any:
            token.copy_(choose_token_on_device(logits, sampling, noise_state, vocab_index, seen))
            position.add_(1)
            return token

        self._finish = compile_fixed(finish, _finish_arguments(self._scratch_state))
        model, self._hf_model = self._hf_model, None
        kind, largest = type(model).__name__, LARGEST_ERROR[model.dtype]
        if self._int8:  # transformers computes with the rounded weights, too: it is the kernels that are checked
            self.decoder.fold_norms(norm_gains(model))
            round_weights(self.decoder, model)
        checks = [(ids, rest, teacher_forced_logits(model, ids, rest)) for ids, rest in self._check_texts(model)]
        self.decoder.fold_norms(norm_gains(model))  # which are ones where they are folded already
        del model  # whose weights are the decoder's
        if self._int8:
            self.decoder.quantise()
            torch.cuda.empty_cache()
        self.tuner = self.decoder.tune(self.plan.compile_cache_dir, self._forward(self._buckets()[0], scratch=True))
        for ids, rest, wanted in checks:
            found = self._teacher_forced(ids, rest)
            error = float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).nan_to_num(nan=float("inf")).max())
            if error > largest:
                raise Unsupported(
                    f"{kind}: logits behind {len(ids)} tokens differ from transformers' own by {error:.2g} of their "
                    f"size, which is more than {largest:g}"
                )
        self.reseed(self.plan.seed)

    def begin(self, prompt_ids: Sequence[int], padded_length: int) -> None:
        self.state.stage(prompt_ids, padded_length)

    def prefill(self, padded_length: int, scratch: bool = False) -> Callable[[], None]:
        """From the prompt's transfer to the choice of the first token."""
        state, cache = self._buffers(scratch)
        ids = state.request[1 : 1 + padded_length]

        def step() -> None:
            state.upload(padded_length)
            self.decoder.prefill(ids, state.last, cache, state.logits)
            state.position.copy_(state.last)
            mark_prompt(state.seen, state.request, state.index, self.plan.sampling)
            self._finish(*_finish_arguments(state))

        return step

    def decode(self, bucket: int, scratch: bool = False) -> Callable[[], None]:
        """From a token to the choice of the next one."""
        state, _ = self._buffers(scratch)
        forward = self._forward(bucket, scratch)

        def step() -> None:
            forward()
            self._finish(*_finish_arguments(state))

        return step

    def _forward(self, bucket: int, scratch: bool) -> Callable[[], None]:
        """From a token to the logits behind it."""
        state, cache = self._buffers(scratch)
        return lambda: self.decoder.decode(state.token, state.position, cache, bucket, state.logits)

    def _buffers(self, scratch: bool) -> Any:
        return (self._scratch_state, self._scratch_cache) if scratch else (self.state, self.cache)

    def reseed(self, seed: int) -> None:
        self.state.reseed(seed)

    def facts(self) -> Facts:
        languages = "Triton, CUDA" if hopper.available(self.decoder.embedding.device) else "Triton"
        return Facts(
            attention="Triton",
            tf32=tf32_state(),
            compile_cache=self._facts.compile_cache,
            kernels=f"our decoder ({languages})" + (", 8-bit weights" if self._int8 else ""),
            weight_bits=8 if self._int8 else None,
        )

    # ------------------------------------------------------------ the comparison with transformers

    def _check_texts(self, model: Any) -> list[tuple[list[int], list[int]]]:
        """Prompts of the lengths of `check_lengths`, each with a continuation."""
        vocabulary = model.config.get_text_config().vocab_size
        texts = []
        plan = self.plan
        prefills = [padded_length(plan.graphs, length, plan.max_context) for length in plan.prompt_lengths]
        for length in check_lengths(prefills, plan.max_context, self._buckets()):
            ids = [(7 + 13 * i + 5 * i * i) % vocabulary for i in range(length + CHECK_STEPS)]
            texts.append((ids[:length], ids[length:]))
        return texts

    def _buckets(self) -> tuple[int, ...]:
        return kv_buckets(self.capacity, self.plan.graphs.kv_buckets)

    def _teacher_forced(self, ids: list[int], continuation: list[int]) -> torch.Tensor:
        """Logits `[len(continuation), vocab]` through these steps, not captured."""
        rows, buckets = [], self._buckets()
        self.begin(ids, len(ids))
        self.prefill(len(ids))()
        for index, token in enumerate(continuation):
            if index:
                self.decode(bucket_for_position(len(ids) + index - 1, buckets))()
            rows.append(self.state.logits[0].to("cpu", torch.float32, copy=True))
            self.state.token.fill_(token)
        return torch.stack(rows)


def check_lengths(padded_lengths: Sequence[int], max_context: int, buckets: Sequence[int]) -> list[int]:
    """Of the prefills of `padded_lengths` the shortest and the longest that have the same tiles, and lengths for both
    ends of each bucket of the KV cache, as far as the context goes."""
    room = max(1, max_context - CHECK_STEPS)
    edges = sorted({*FLOAT_TILES, FILLED_INSIDE, *hopper.BLOCK_TOKENS})
    same_tiles: dict[int, list[int]] = {}
    for length in padded_lengths:
        same_tiles.setdefault(bisect_left(edges, length), []).append(min(length, room))
    prefills = {end(lengths) for lengths in same_tiles.values() for end in (min, max)}
    # The first and the last decode step of each bucket, whose positions are those behind the prompt.
    decodes = {edge for bucket in buckets for edge in (bucket, bucket - CHECK_STEPS + 1)}
    return sorted(length for length in prefills | decodes if 1 <= length <= room)


def _finish_arguments(state: StepState) -> tuple[torch.Tensor, ...]:
    return state.logits, state.token, state.position, state.vocab_index, state.noise_state, state.seen
