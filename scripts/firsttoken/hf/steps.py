"""Steps over Hugging Face's own forward: one prefill, one decode step, with the dynamic operations around them.

`HfSteps` has them outside the step, so that a graph holds the forward alone. `CapturedHfSteps` has them inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from firsttoken.engine.base import EngineSpec
from firsttoken.engine.buckets import kv_buckets, padded_length
from firsttoken.engine.compilation import use_compile_cache
from firsttoken.hf.kv_cache import DecodeView, KVStorage, PrefillView, aligned, allocate_storage
from firsttoken.hf.load import attention_name, load_model, tf32_state
from firsttoken.hf.masks import MaskPlan, use_ready_masks
from firsttoken.hf.native_ops import HfState, NativeOps
from firsttoken.hf.rope import rope_parameters
from firsttoken.plan import Plan, Unsupported
from firsttoken.results import Facts

if TYPE_CHECKING:
    from firsttoken.hf.jit_ops import JitOps

Step = Callable[[], None]
# Dynamo keeps what it compiled per code object; each KV bucket and prompt length is one entry.
COMPILATIONS_PER_FUNCTION = 512


def load_hf_steps(spec: EngineSpec, device: torch.device) -> HfSteps:
    """Load the model. Raises Unsupported for one that cannot run over a static cache."""
    jit = spec.dynamic_operations == "jit"
    cache = use_compile_cache(spec.plan.compile_cache_dir, few_kernels=True) if jit else "none"
    model = load_model(spec.model_dir, spec.plan.dtype, spec.plan.device, threads=spec.plan.threads)
    return HfSteps(model, spec, device, Facts(compile_cache=cache))


class HfSteps:
    """See `engine.loop.Steps`."""

    def __init__(self, model: PreTrainedModel, spec: EngineSpec, device: torch.device, facts: Facts) -> None:
        """`facts` holds what the caller knows: `compile_cache` and `kernels`."""
        plan = spec.plan
        refuse_unsupported(model, plan.max_context)
        if spec.forward != "eager":
            refuse_varying_rope(model, plan)
        use_ready_masks(model)
        self.model: Any = model
        self.plan, self._facts = plan, facts
        self._operations = spec.dynamic_operations
        self.capacity = aligned(plan.max_context)
        self.masks = MaskPlan(model.config, model.dtype, device, self.capacity)
        self.storage = allocate_storage(model, self.capacity, self.masks.prefill(1))
        self.state = HfState(self.masks, vocab_size(model), plan.seed)
        self._scratch = self.state.scratch(), self.storage.scratch()
        self.ops: NativeOps | JitOps
        self.advance: Step | None = None

    def compile(self) -> None:
        """The JIT operations; the others have nothing to compile."""
        if self._operations == "native":
            self.ops = NativeOps(self.state, self.plan.sampling, self.plan.seed)
        elif self._operations == "published":
            from firsttoken.hf.published_ops import PublishedOps

            self.ops = PublishedOps(self.state, self.plan.sampling, self.plan.seed)
        else:
            from firsttoken.hf.jit_ops import JitOps

            self.ops = JitOps(self.state, self.plan.sampling, self.plan.jit_backend)
        self.advance = self.ops.advance

    def begin(self, prompt_ids: Sequence[int], padded_length: int) -> None:
        self.ops.begin(prompt_ids)

    def prefill(self, padded_length: int, scratch: bool = False) -> Step:
        """Prompt of `padded_length` tokens (padding included) to the logits of its last true token."""
        state, storage = self._buffers(scratch)
        cache, mask = PrefillView(storage), self.masks.prefill(padded_length)
        input_ids, position_ids = state.input_ids[:, :padded_length], state.index[None, :padded_length]
        forward = self._forward(padded_length)

        def step() -> None:
            output = forward(
                input_ids=input_ids, position_ids=position_ids, attention_mask=mask, past_key_values=cache,
                use_cache=True, logits_to_keep=state.last,
            )  # fmt: skip
            state.logits.copy_(output.logits[:, 0])

        return step

    def decode(self, bucket: int, scratch: bool = False) -> Step:
        """`state.token` at `state.position` to the next logits, over the first `bucket` positions of the cache."""
        state, storage = self._buffers(scratch)
        cache, mask = DecodeView(storage, state.position, bucket), self.masks.decode(state.rows, bucket)
        position_ids = state.position[None]
        forward = self._forward(None)

        def step() -> None:
            output = forward(
                input_ids=state.token, position_ids=position_ids, attention_mask=mask, past_key_values=cache,
                use_cache=True,
            )  # fmt: skip
            state.logits.copy_(output.logits[:, 0])

        return step

    def _buffers(self, scratch: bool) -> tuple[HfState, KVStorage]:
        return self._scratch if scratch else (self.state, self.storage)

    def _forward(self, padded_length: int | None) -> Any:
        """What computes a prefill of this length, or a decode step."""
        return self.model

    def reseed(self, seed: int) -> None:
        self.ops.reseed(seed)

    def facts(self) -> Facts:
        return Facts(
            attention=attention_name(self.model),
            tf32=tf32_state(),
            compile_cache=self._facts.compile_cache,
            kernels=self._facts.kernels,
        )


class CapturedHfSteps(HfSteps):
    """The forward compiled by torch.compile, with the JIT operations within the step: what `compiled_graph` runs where
    our own decoder does not cover the model."""

    ops: JitOps

    def __init__(
        self, model: PreTrainedModel, spec: EngineSpec, device: torch.device, facts: Facts, compiled: bool
    ) -> None:
        """`compiled` False: the forward as it is, where nothing is captured either."""
        super().__init__(model, spec, device, facts)
        self._compiled_forward: Any = model
        if compiled:
            # Buffers that layers share are another case to torch.compile, and would be compiled once more.
            self._scratch = self.state.scratch(), self.storage.copy()
            from torch._dynamo import config

            config.recompile_limit = max(config.recompile_limit, COMPILATIONS_PER_FUNCTION)
            self._compiled_forward = torch.compile(model, fullgraph=True, dynamic=False)
        self._planned = {padded_length(self.plan.graphs, n, self.plan.max_context) for n in self.plan.prompt_lengths}

    def compile(self) -> None:
        """Compile the operations, and the forward for every planned prompt length and KV bucket."""
        super().compile()
        self.advance = None
        for length in self._planned:
            self.prefill(length, scratch=True)()
        for bucket in kv_buckets(self.capacity, self.plan.graphs.kv_buckets):
            self.decode(bucket, scratch=True)()

    def begin(self, prompt_ids: Sequence[int], padded_length: int) -> None:
        self.state.stage(prompt_ids, padded_length)

    def prefill(self, padded_length: int, scratch: bool = False) -> Step:
        forward, (state, _) = super().prefill(padded_length, scratch), self._buffers(scratch)

        def step() -> None:
            state.upload(padded_length)
            self.ops.begin_on_device(state)
            forward()
            self.ops.advance_on_device(state)

        return step

    def decode(self, bucket: int, scratch: bool = False) -> Step:
        forward, (state, _) = super().decode(bucket, scratch), self._buffers(scratch)

        def step() -> None:
            forward()
            self.ops.advance_on_device(state)

        return step

    def _forward(self, padded_length: int | None) -> Any:
        # A length that is not in the plan would be compiled while a request waits for it.
        planned = padded_length is None or padded_length in self._planned
        return self._compiled_forward if planned else self.model


def refuse_unsupported(model: Any, max_context: int) -> None:
    """Raise Unsupported for a class that transformers does not promise to run over a static cache, or a context
    too long."""
    name = type(model).__name__
    if not getattr(model, "_can_compile_fullgraph", False):
        raise Unsupported(f"{name}: transformers does not mark it as able to use a static KV cache")
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and max_context > longest:
        raise Unsupported(f"{name}: {max_context} positions asked for, max_position_embeddings is {longest}")


def refuse_varying_rope(model: Any, plan: Plan) -> None:
    """Raise Unsupported where rotary angles depend on the text's length in a way that a replayed step cannot follow."""
    for rope in rope_parameters(model.config):
        kind, original = rope.get("rope_type", "default"), rope.get("original_max_position_embeddings", 0)
        if "dynamic" in kind:
            raise Unsupported(f"{type(model).__name__}: rotary positions of type {kind} are computed on the host")
        # One buffer holds the angles of short or of long texts, for requests and for captures beside them.
        if kind == "longrope" and min(plan.prompt_lengths) <= original < plan.max_context:
            raise Unsupported(
                f"{type(model).__name__}: rotary positions of type {kind} change at {original} positions, which some "
                "of the plan's texts exceed and others do not"
            )


def vocab_size(model: Any) -> int:
    """Columns of the logits."""
    return int(model.get_output_embeddings().weight.shape[0])
