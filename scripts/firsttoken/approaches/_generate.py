"""Hugging Face's `generate()` with a streamer, as an approach: shared by `baseline` and `static_compile`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from firsttoken.approaches.base import Approach, DiscardingSink, TokenSink
from firsttoken.plan import Plan, Unsupported
from firsttoken.results import Facts, MemoryReport, SetupTimes


class _SinkStreamer:
    """Hands each token over as `generate` does; the first thing that it puts is the prompt, which is dropped."""

    def __init__(self, sink: TokenSink) -> None:
        self._sink = sink
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self._sink.push(int(value))

    def end(self) -> None:
        pass


class GenerateApproach(Approach):
    """One process, direct calls; subclasses say which arguments `generate` gets beyond the common ones."""

    generate_arguments: ClassVar[dict[str, Any]] = {}

    def load(self, model_dir: Path, plan: Plan) -> SetupTimes:
        start = time.perf_counter()
        import torch
        from transformers import GenerationConfig

        from firsttoken.hf.load import load_stock_model

        self._torch = torch
        torch.set_num_threads(plan.threads)
        torch.manual_seed(plan.seed)
        imported = time.perf_counter()
        self._plan = plan
        self._model: Any = load_stock_model(model_dir, plan.dtype, plan.device)
        # A generation config of our own: the model's may stop at end-of-sequence, sample, or penalise repetition.
        choice: dict[str, Any] = {"do_sample": False}
        if plan.sampling.method == "sample":
            sampling = plan.sampling
            choice = {
                "do_sample": True,
                "repetition_penalty": sampling.repetition_penalty,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
            }
        self._model.generation_config = GenerationConfig(**choice, use_cache=True, eos_token_id=None, pad_token_id=None)
        self._prefills = self._decode_steps = 0
        loaded = time.perf_counter()
        self._warm_up()
        if plan.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        warm = time.perf_counter()
        return SetupTimes(imports_s=imported - start, load_s=loaded - imported, warm_up_s=warm - loaded)

    def _warm_up(self) -> None:
        """Run every prompt length twice; the first pass counts the forward calls, so that `counters` need no hook."""
        self._check_one_prefill_a_request()
        # The longest first: a static cache takes its size from it.
        for length in sorted(self._plan.prompt_lengths, reverse=True):
            for _ in range(2):
                self._run([1] * length, self._plan.new_tokens, DiscardingSink())

    def _check_one_prefill_a_request(self) -> None:
        lengths: list[int] = []

        def record(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
            lengths.append(keywords["input_ids"].shape[1])

        prompt_length = self._plan.prompt_lengths[0]
        hook = self._model.register_forward_pre_hook(record, with_kwargs=True)
        try:
            self._run([1] * prompt_length, self._plan.new_tokens, DiscardingSink())
        finally:
            hook.remove()
        expected = [prompt_length] + [1] * (self._plan.new_tokens - 1)
        if lengths != expected:
            raise Unsupported(
                f"generate() ran forward passes of {lengths} tokens, not one prefill and one-token steps {expected}"
            )

    def _run(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        torch = self._torch
        input_ids = torch.tensor([list(prompt_ids)], device=self._plan.device)
        self._model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=max_new_tokens,
            streamer=_SinkStreamer(sink),
            **self.generate_arguments,
        )

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, sink: TokenSink) -> None:
        self._run(prompt_ids, max_new_tokens, sink)
        self._prefills += 1
        self._decode_steps += max_new_tokens - 1

    def memory(self) -> MemoryReport:
        if self._plan.device != "cuda":
            return MemoryReport()
        return MemoryReport(
            device_allocated_bytes=self._torch.cuda.max_memory_allocated(),
            device_reserved_bytes=self._torch.cuda.max_memory_reserved(),
        )

    def counters(self) -> dict[str, float]:
        return {"prefills": self._prefills, "decode_steps": self._decode_steps, "recompiles": 0}

    def facts(self) -> Facts:
        from firsttoken.hf.load import attention_name, tf32_state

        # `generate` is decorated with torch.no_grad()
        return Facts(attention=attention_name(self._model), tf32=tf32_state(), grad_mode="no_grad")

    def close(self) -> None:
        self._model = None
