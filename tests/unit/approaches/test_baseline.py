"""The baseline gives the tokens of plain greedy decoding, one push a token, exactly as many as asked for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from fakes.sinks import OneByOne
from firsttoken.approaches.base import Approach, approach_class
from firsttoken.plan import Plan, Sampling
from unit.tiny_models import prompt_ids, save_tiny_model

pytest.importorskip("torch")

LENGTHS = (4, 11)
NEW_TOKENS = 6


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {"prompt_lengths": LENGTHS, "new_tokens": NEW_TOKENS, "max_context": 20}
    return Plan(**{**fields, "dtype": "float32", "device": "cpu", **changes})


def tokens(approach: Approach, length: int, new_tokens: int = NEW_TOKENS) -> list[int]:
    sink = OneByOne()
    approach.generate(prompt_ids(length), new_tokens, sink)
    return sink.tokens


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("llama_gqa", tmp_path_factory.mktemp("model"))


def test_tokens_are_those_of_plain_greedy_decoding(model_dir: Path) -> None:
    from firsttoken.hf.eager_decode import greedy_decode
    from firsttoken.hf.load import load_model

    model = load_model(model_dir, "float32", "cpu", attention="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with approach_class("baseline")() as approach:
            approach.load(model_dir, plan())
            for length in LENGTHS:
                assert tokens(approach, length) == greedy_decode(model, prompt_ids(length), NEW_TOKENS)[0]
            counters = approach.counters()
    assert counters["prefills"] == len(LENGTHS)
    assert counters["decode_steps"] == len(LENGTHS) * (NEW_TOKENS - 1)


def test_end_of_sequence_is_ignored(model_dir: Path, tmp_path: Path) -> None:
    """The model's own generation config stops at the first greedy token; all tokens come all the same."""
    from transformers import AutoModelForCausalLM

    with approach_class("baseline")() as approach:
        approach.load(model_dir, plan())
        free = tokens(approach, 4)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    model.config.eos_token_id = model.generation_config.eos_token_id = free[0]
    model.generation_config.pad_token_id = 0
    model.save_pretrained(tmp_path)
    with approach_class("baseline")() as approach:
        approach.load(tmp_path, plan())
        assert tokens(approach, 4) == free


def test_sampling_differs_between_requests_and_repeats_with_the_seed(model_dir: Path) -> None:
    sampled = plan(sampling=Sampling(method="sample", temperature=1.5, top_p=0.95), seed=3)
    runs = []
    for _ in range(2):
        with approach_class("baseline")() as approach:
            approach.load(model_dir, sampled)
            runs.append([tokens(approach, 11), tokens(approach, 11)])
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1]


def test_generate_draws_from_what_the_filters_leave(model_dir: Path) -> None:
    """The distribution that our own forms of the dynamic operations are held to (tests/unit/hf/test_native_ops.py).
    Seen to fail without the penalty in the generation config."""
    from fakes.sampled import FULL, assert_drawn_from, transformers_probabilities
    from firsttoken.hf.eager_decode import teacher_forced_logits
    from firsttoken.hf.load import load_model

    with approach_class("baseline")() as approach:
        approach.load(model_dir, plan(sampling=FULL, new_tokens=1))
        drawn = [tokens(approach, 11, 1)[0] for _ in range(600)]
    logits = teacher_forced_logits(load_model(model_dir, "float32", "cpu"), prompt_ids(11), [0])
    assert_drawn_from(drawn, transformers_probabilities(logits, prompt_ids(11), FULL))


def test_logits_are_those_that_chose_the_tokens(model_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    with approach_class("baseline")() as approach:
        approach.load(model_dir, plan())
        continuation = tokens(approach, 11)
        assert approach.save_logits(prompt_ids(11), continuation, tmp_path / "logits.safetensors")
    logits = load_file(tmp_path / "logits.safetensors")["logits"]
    assert logits.shape == (NEW_TOKENS, 96)
    assert logits.argmax(-1).tolist() == continuation


def test_close_twice(model_dir: Path) -> None:
    approach = approach_class("baseline")()
    approach.load(model_dir, plan())
    approach.close()
    approach.close()
