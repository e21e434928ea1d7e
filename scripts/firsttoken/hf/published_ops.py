"""The dynamic operations as the published study wrote them: native PyTorch, with waits for the device in every step.

Modelled on `native_python_preprocessing`, `native_python_sampling` and `process_inference_request` of its CUDA-graph
server (case2_async_cuda_generator.py at commit 4b0b2b7 of github.com/divakar-yadav/Hybrid-JIT-CUDA-Graph-Optimization-
for-Low-Latency-Large-Language-Model-Inference): new tensors for the prompt and its padding, which are concatenated,
torch.multinomial, `.item()`. That server only divides by the temperature. The filters, which the study asks of
`generate()` in its baseline, are here what `generate()` runs: transformers' logits processors in float32, over token
ids that grow by concatenation. The published code makes one token a request, so positions and masks of a decode step
are those of `NativeOps`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from firsttoken.hf.native_ops import HfState, NativeOps, show_positions
from firsttoken.plan import Sampling


class PublishedOps(NativeOps):
    """See the module; the operations that `hf.native_ops` has without waits and, but for the filters, in place."""

    def __init__(self, state: HfState, sampling: Sampling, seed: int) -> None:
        super().__init__(state, sampling, seed)
        self._processors = logits_processors(sampling)
        self._ids = torch.zeros(1, 1, dtype=torch.int64, device=state.logits.device)  # of the request, [1, tokens]

    def begin(self, prompt_ids: Sequence[int]) -> None:
        state, length = self.state, len(prompt_ids)
        state.check(prompt_ids)
        device, dtype = state.input_ids.device, state.input_ids.dtype
        self._ids = torch.tensor([list(prompt_ids)], dtype=dtype, device=device)
        padding = torch.full((1, state.input_ids.shape[1] - length), 0, dtype=dtype, device=device)
        state.input_ids.copy_(torch.cat([self._ids, padding], dim=1))
        state.last.fill_(length - 1)
        state.position.fill_(length - 1)
        show_positions(state.rows, state.position, state.index, state.windows, state.hidden)

    def choose(self) -> None:
        logits = self.state.logits
        if self.sampling.method == "greedy":
            token = torch.argmax(logits[0]).view(1)
        else:
            scores = self._processors(self._ids, logits.float())  # type: ignore[arg-type]  # declares LongTensor
            token = torch.multinomial(torch.softmax(scores, dim=-1)[0], 1, generator=self.generator)
        self._ids = torch.cat([self._ids, token[None]], dim=1)
        self.state.token.fill_(token.item())


def logits_processors(sampling: Sampling) -> LogitsProcessorList:
    """Those of the filters that are on, in the order of `generate()`."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        processors.append(TopPLogitsWarper(sampling.top_p))
    return processors
