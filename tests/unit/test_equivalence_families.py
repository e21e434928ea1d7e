"""Every approach gives the tokens and logits of eager float32, in every family of models that it is asked to serve."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.sinks import OneByOne
from firsttoken.approaches.base import Approach, approach_class, approach_names
from firsttoken.plan import Plan, Unsupported
from unit.tiny_models import FAMILIES, build_tiny_model, prompt_ids, save_tiny_model

torch = pytest.importorskip("torch")

LENGTHS = (12, 3)  # 12 is longer than the sliding window of `mistral_window`
NEW_TOKENS = 8

# A generator process, or a compilation by Inductor, costs many seconds a family: those approaches get the families that
# differ most. Their engines see all families in runtime/test_model_engine.py and test_compiled_step.py.
IN_ONE_PROCESS = ("baseline", "eager_loop", "jit_only", "cuda_graph_1p", "jit_cuda_1p")
COSTLY = {
    "cuda_graph": ("llama_gqa", "mistral_window"),
    "jit_cuda": ("gpt2",),
    "compiled_graph": ("mistral_window",),
    "static_compile": ("llama_gqa",),
}
CASES = [
    *(pytest.param(name, family) for name in IN_ONE_PROCESS for family in FAMILIES),
    *(pytest.param(name, family, marks=pytest.mark.slow) for name, families in COSTLY.items() for family in families),
]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """family -> folder of its model, saved once."""
    return functools.cache(lambda family: save_tiny_model(family, tmp_path_factory.mktemp(family)))


@functools.cache
def reference(family: str, length: int) -> tuple[list[int], Any]:
    """(tokens, logits `[NEW_TOKENS, vocab]`) of the whole text through eager attention at once: no cache anywhere."""
    model = build_tiny_model(family)
    model.set_attn_implementation("eager")
    text = prompt_ids(length)
    rows = []
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            rows.append(model(torch.tensor([text]), use_cache=False).logits[0, -1])
            text = [*text, int(rows[-1].argmax())]
    return text[length:], torch.stack(rows)


def load(name: str, folder: Path) -> Approach:
    approach = approach_class(name)()
    plan = Plan(
        prompt_lengths=LENGTHS,
        new_tokens=NEW_TOKENS,
        max_context=32,
        dtype="float32",
        device="cpu",
        jit_backend="torchscript",
    )
    try:
        approach.load(folder, plan)
    except Unsupported as error:
        approach.close()
        pytest.skip(f"{name} is unavailable for this family: {error}")
    except BaseException:
        approach.close()
        raise
    return approach


@pytest.mark.parametrize(("name", "family"), CASES)
def test_tokens_and_logits(name: str, family: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    if name not in approach_names():
        pytest.skip(f"there is no approaches/{name}.py")
    with load(name, model_folder(family)) as approach:
        for length in (*LENGTHS, LENGTHS[0]):  # long, short, long again: nothing is left of the request before
            sink = OneByOne()
            approach.generate(prompt_ids(length), NEW_TOKENS, sink)
            assert sink.tokens == reference(family, length)[0]
        path = tmp_path / "logits.safetensors"
        if approach.save_logits(prompt_ids(LENGTHS[0]), reference(family, LENGTHS[0])[0], path):
            found = load_file(path)["logits"]
            torch.testing.assert_close(found, reference(family, LENGTHS[0])[1], atol=1e-4, rtol=1e-4)
        counters = approach.counters()
        assert counters.get("recompiles", 0) == 0
        assert counters.get("decode_steps", 3 * (NEW_TOKENS - 1)) >= 3 * (NEW_TOKENS - 1)
