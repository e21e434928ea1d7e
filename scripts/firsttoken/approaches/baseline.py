"""The baseline: Hugging Face eager `generate()` with a streamer, in one process; what most people run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from firsttoken.approaches._generate import GenerateApproach


class Baseline(GenerateApproach):
    """`generate()` as it comes: eager forward, growing KV cache, native padding, positions and sampling."""

    name = "baseline"
    title = "Baseline (Hugging Face eager)"

    def save_logits(self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], path: Path) -> bool:
        from firsttoken.engine.logits import save_logits_file
        from firsttoken.hf.eager_decode import teacher_forced_logits

        save_logits_file(teacher_forced_logits(self._model, prompt_ids, continuation_ids), path)
        return True
