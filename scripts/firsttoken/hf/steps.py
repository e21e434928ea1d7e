"""The static work: one prefill, one decode step, as Hugging Face's own forward over fixed buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from firsttoken.hf.kv_cache import DecodeView, KVStorage, PrefillView
from firsttoken.hf.masks import MaskPlan
from firsttoken.hf.native_ops import StepState
from firsttoken.plan import Unsupported

Step = Callable[[], None]


class ModelSteps:
    """Makes steps: functions without arguments that read and write a `StepState` and a `KVStorage`."""

    def __init__(self, model: PreTrainedModel, masks: MaskPlan) -> None:
        self.model: Any = model
        self.masks = masks

    def prefill(self, state: StepState, storage: KVStorage, length: int) -> Step:
        """Prompt of `length` tokens (padding included) to the logits of its last true token."""
        model, cache = self.model, PrefillView(storage)
        input_ids, position_ids = state.input_ids[:, :length], state.index[None, :length]
        mask = self.masks.prefill(length)

        def step() -> None:
            output = model(
                input_ids=input_ids, position_ids=position_ids, attention_mask=mask, past_key_values=cache,
                use_cache=True, logits_to_keep=state.last,
            )  # fmt: skip
            state.logits.copy_(output.logits[:, 0])

        return step

    def decode(self, state: StepState, storage: KVStorage, bucket: int) -> Step:
        """`state.token` at `state.position` to the next logits, over the first `bucket` positions of the cache."""
        model, cache = self.model, DecodeView(storage, state.position, bucket)
        position_ids = state.position[None]
        mask = self.masks.decode(state.rows, bucket)

        def step() -> None:
            output = model(
                input_ids=state.token, position_ids=position_ids, attention_mask=mask, past_key_values=cache,
                use_cache=True,
            )  # fmt: skip
            state.logits.copy_(output.logits[:, 0])

        return step


def refuse_unsupported(model: Any, max_context: int) -> None:
    """Raise Unsupported for a class that transformers does not promise to run over a static cache, or a context
    too long."""
    name = type(model).__name__
    if not getattr(model, "_can_compile_fullgraph", False):
        raise Unsupported(f"{name}: transformers does not mark it as able to use a static KV cache")
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and max_context > longest:
        raise Unsupported(f"{name}: {max_context} positions asked for, max_position_embeddings is {longest}")


def vocab_size(model: Any) -> int:
    """Columns of the logits."""
    return int(model.get_output_embeddings().weight.shape[0])


def scratch_state(state: StepState, masks: MaskPlan) -> StepState:
    """A second set of buffers for rehearsals, so that nothing that a request will read is touched."""
    scratch = StepState(masks, state.logits.shape[-1], seed=0, pin=False)
    for row in scratch.rows:
        row.zero_()
    return scratch
