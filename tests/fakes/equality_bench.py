"""One model on one device under the equality gate: its float32 reference, the baseline and engines, in any dtype."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from fakes.engines import make_spec, run_request
from fakes.equality_bugs import NOISE_IN_BOUNDS, EqualityBug
from firsttoken.analysis.equality_bounds import Limits, read_limits
from firsttoken.analysis.equality_positions import Reference, compare_positions
from firsttoken.analysis.equivalence import judge
from firsttoken.engines import build_engine
from firsttoken.hf.eager_decode import teacher_forced_logits
from firsttoken.hf.load import load_model
from firsttoken.hf.reference import make_reference
from firsttoken.plan import GraphOptions, Prompt, Prompts
from firsttoken.results import PromptTokens, TokenSequence, TokensRecord

ROOT = Path(__file__).resolve().parents[2]
BOUNDS = ROOT / "config" / "equality_bounds.csv"
DTYPES = ("float32", "float16", "bfloat16")
LENGTHS, NEW_TOKENS, PROMPTS = (12, 48), 8, 2


class EqualityBench:
    """`judged` sends what an engine computes through the real gate, beside what the baseline computes in its dtype."""

    def __init__(
        self,
        model_dir: Path,
        folder: Path,
        device: str = "cpu",
        *,
        lengths: Sequence[int] = LENGTHS,
        new_tokens: int = NEW_TOKENS,
        prompts_per_length: int = PROMPTS,
        threads: int = 1,
    ) -> None:
        self.model_dir, self.folder, self.device, self.threads = model_dir, folder, device, threads
        self.lengths, self.new_tokens = tuple(lengths), new_tokens
        vocabulary = load_model(model_dir, "float32", "cpu").config.vocab_size
        drawn = torch.Generator().manual_seed(5)
        prompts = tuple(
            Prompt(
                index=index, length=length, offset=0,
                token_ids=tuple(torch.randint(3, vocabulary, (length,), generator=drawn).tolist()),
            )
            for length in lengths for index in range(prompts_per_length)
        )  # fmt: skip
        self.prompts = Prompts(seed=5, corpus_sha256="", tokenizer_sha256="", prompts=prompts)
        path = folder / "reference.safetensors"
        make_reference(model_dir, self.prompts, new_tokens, 2**20, prompts_per_length, device, threads, path)
        _give_memory_back()
        self.reference = Reference(path)
        self._baselines: dict[str, pd.DataFrame] = {}
        self._dtypes: dict[Any, str] = {}  # of the engines

    def limits(self, dtype: str) -> Limits:
        return read_limits(BOUNDS, dtype, self.reference.layers)

    def baseline(self, dtype: str) -> pd.DataFrame:
        """Positions of Hugging Face's own forward in `dtype`."""
        if dtype not in self._baselines:
            model = load_model(self.model_dir, dtype, self.device, threads=self.threads)

            def answer(prompt: Prompt, path: Path) -> list[int]:
                forced = self.reference.tokens((prompt.length, prompt.index))
                logits = teacher_forced_logits(model, prompt.token_ids, forced)
                save_file({"logits": logits.contiguous()}, path)
                return list(forced)  # its own tokens are not what is tested here

            self._baselines[dtype] = self._positions("baseline", answer)
            del model, answer
            _give_memory_back()
        return self._baselines[dtype]

    @contextmanager
    def engine(self, dtype: str, forward: Any = "eager", operations: Any = "native") -> Iterator[Any]:
        spec = make_spec(
            self.model_dir, forward, operations, dtype=dtype, device=self.device, threads=self.threads,
            prompt_lengths=self.lengths, new_tokens=self.new_tokens, max_context=max(self.lengths) + self.new_tokens,
            graphs=GraphOptions(),
        )  # fmt: skip
        engine = build_engine(spec)
        self._dtypes[engine] = dtype
        try:
            yield engine
        finally:
            engine.close()
            del self._dtypes[engine], engine
            _give_memory_back()

    def computed(self, engine: Any, bug: EqualityBug | None = None, name: str = "engine") -> pd.DataFrame:
        """Positions of what the engine computes with the bug in it."""

        def answer(prompt: Prompt, path: Path) -> list[int]:
            forced = self.reference.tokens((prompt.length, prompt.index))
            assert engine.save_logits(prompt.token_ids, forced, path)
            return run_request(engine, prompt.token_ids, self.new_tokens)

        with ExitStack() as stack:
            if bug is not None:
                stack.enter_context(bug.plant(engine, bug.size))
            return self._positions(name, answer)

    def judged(self, engine: Any, bug: EqualityBug | None = None) -> dict[str, Any]:
        """The gate's row for the engine with the bug in it."""
        dtype = self._dtypes[engine]
        return judge(self.computed(engine, bug), self.baseline(dtype), self.limits(dtype))

    def sized(self, engine: Any, bug: EqualityBug) -> EqualityBug:
        """The bug in the size that is planted; noise depends on the bound that the clean engine is held to."""
        if not math.isnan(bug.size):
            return bug
        return bug.sized(NOISE_IN_BOUNDS * float(self.judged(engine)["rms_bound"]))

    def smallest_noticed(self, engine: Any, bug: EqualityBug, halvings: int = 24) -> float | None:
        """The smallest noticed size among size, size / 2, size / 4 ..., by bisection; None: not even the whole bug."""
        whole = self.sized(engine, bug)

        def noticed(halved: int) -> bool:
            part = whole.sized(whole.size / 2**halved)
            return bool(self.judged(engine, part)["verdict"] == "different")

        if not noticed(0):
            return None
        last, first_unnoticed = 0, halvings
        while first_unnoticed - last > 1:
            middle = (last + first_unnoticed) // 2
            last, first_unnoticed = (middle, first_unnoticed) if noticed(middle) else (last, middle)
        return float(whole.size / 2**last)

    def _positions(self, approach: str, answer: Callable[[Prompt, Path], Sequence[int]]) -> pd.DataFrame:
        folder = self.folder / f"{approach}.logits"
        folder.mkdir(exist_ok=True)
        prompts = []
        for prompt in self.prompts.prompts:
            name = f"{prompt.length}-{prompt.index}.safetensors"
            answers = (TokenSequence(tokens=tuple(answer(prompt, folder / name)), requests=1),)
            prompts.append(
                PromptTokens(
                    prompt_length=prompt.length, prompt_index=prompt.index, answers=answers, logits_file=name
                )
            )  # fmt: skip
        run = TokensRecord(approach=approach, repeat=1, prompts=tuple(prompts))
        return compare_positions(approach, [run], {1: folder}, self.reference)


def _give_memory_back() -> None:
    """Large models follow one another on one device."""
    gc.collect()
    torch.cuda.empty_cache()
